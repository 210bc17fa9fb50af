"""The commands that the app may start, and their arguments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytoseg.errors import CytosegError

IMPORTED = ("to_label", "queue", "review/corrections")
"""Folders of a run that hold annotations to import."""


@dataclass(frozen=True)
class Order:
    """A command that can be started.

    Attributes:
        title: Title shown to users.
        told: One-sentence description.
        words: Returns the arguments from the recipe's path, the run folder and the inputs: paths of slides, or a folder
            of
            ``IMPORTED``.
        takes: Required inputs: ``slides``, ``folder`` or nothing.
    """

    title: str
    told: str
    words: Callable[[str, Path, Sequence[str]], Sequence[str]]
    takes: str = ""


def _plain(*command: str) -> Callable[[str, Path, Sequence[str]], Sequence[str]]:
    return lambda recipe, _run, _given: (*command, recipe)


ORDERS: Mapping[str, Order] = {
    "label-import": Order(
        "Import annotations",
        "Reads annotations and converts them to label maps.",
        lambda recipe, run, given: ("label-import", str(run / given[0]), "--recipe", recipe),
        takes="folder",
    ),
    "train-ddpm": Order(
        "Train the diffusion model",
        "Learns from random crops of slides without labels: hours on a GPU, days on a CPU.",
        _plain("train-ddpm"),
    ),
    "train-interpreter": Order(
        "Train",
        "Learns the classes from the labelled crops that are not test crops.",
        _plain("train-interpreter"),
    ),
    "evaluate": Order("Evaluate", "Scores the model on the test crops.", _plain("evaluate")),
    "predict": Order(
        "Predict slides",
        "Gives every pixel of the chosen slides a class, and finds the objects.",
        lambda recipe, _run, given: ("predict", recipe, *given),
        takes="slides",
    ),
    "queue": Order(
        "Fill the queue", "Chooses regions of predicted slides that are worth annotating next.", _plain("queue")
    ),
    "study": Order(
        "Study label efficiency",
        "Shows how the scores grow with the labelled crops: many trainings, hours.",
        lambda recipe, _run, _given: ("study", "label-efficiency", recipe),
    ),
}
"""Orders by command name."""


def command_of(name: str, run: Path, given: Sequence[str]) -> list[str]:
    """Return the arguments of an order, without the program.

    Args:
        name: Name of the command.
        run: The run folder, absolute.
        given: Absolute paths of slides, or one of ``IMPORTED``.

    Raises:
        CytosegError: If the command may not be started, or its inputs are invalid.
    """
    order = ORDERS.get(name)
    if order is None:
        raise CytosegError(f"jobs: {name[:40]!r} is no command that can be started. Choose one of {', '.join(ORDERS)}.")
    fits = {
        "": not given,
        "slides": bool(given) and all(Path(path).is_absolute() for path in given),
        "folder": len(given) == 1 and given[0] in IMPORTED,
    }
    if not fits[order.takes]:
        wanted = {"": "nothing", "slides": "slides", "folder": f"one of {', '.join(IMPORTED)}"}[order.takes]
        raise CytosegError(f"jobs: {name} takes {wanted}. Choose again.")
    return list(order.words(str(run / "recipe.yaml"), run, given))
