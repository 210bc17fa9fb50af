"""The commands that the app may start, and their arguments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytoseg.errors import CytosegError
from cytoseg.labels.index import is_file_name

IMPORTED = ("to_label", "queue", "review/corrections")
"""Folders of a run that hold annotations to import."""
ANNOTATED = IMPORTED[:2]
"""Folders of a run with crops to annotate."""
KINDS: Mapping[str, tuple[str, str]] = {
    "mlps": ("MLPs", "Small networks on the features of each pixel: seconds to a few minutes on one core of a CPU."),
    "decoder": (
        "Decoder",
        "Tunes the whole network, slightly better nuclei with few crops: minutes to an hour and a half on one core.",
    ),
    "student": (
        "Student",
        "A small network for many slides: after its teacher's training, about ten minutes more on one core. It "
        "predicts more than ten times as fast as its teacher, slightly worse.",
    ),
}
"""Title and cost of each ``interpreter.kind`` that training can be started with instead of the recipe's."""
LEARN_NORMAL = "anomaly-normal"
"""Order that learns from normal slides what the order ``anomaly`` compares with."""


@dataclass(frozen=True)
class Order:
    """A command that can be started.

    Attributes:
        title: Title shown to users.
        told: One-sentence description.
        words: Returns the arguments from the recipe's path, the run folder and the inputs: paths of slides, a folder of
            ``IMPORTED``, a crop to annotate as ``folder/stem``, or one of ``KINDS``.
        takes: Required inputs: ``slides``, ``folder``, ``crop`` or nothing; or ``kind``, which may be left out.
    """

    title: str
    told: str
    words: Callable[[str, Path, Sequence[str]], Sequence[str]]
    takes: str = ""


def _plain(*command: str, options: Sequence[str] = ()) -> Callable[[str, Path, Sequence[str]], Sequence[str]]:
    return lambda recipe, _run, _given: (*command, recipe, *options)


_GO_ON = ("--resume",)
"""Continues a training that began before, and begins one that did not; without it the first is refused."""


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
        _plain("train-ddpm", options=_GO_ON),
    ),
    "train-autoencoder": Order(
        "Train the autoencoder",
        "Learns the latent space in which the diffusion model then works: hours.",
        _plain("train-autoencoder", options=_GO_ON),
    ),
    "train-interpreter": Order(
        "Train",
        "Learns the classes from the labelled crops that are not test crops.",
        lambda recipe, _run, given: ("train-interpreter", recipe, *(f"interpreter.kind={kind}" for kind in given)),
        takes="kind",
    ),
    "evaluate": Order("Evaluate", "Scores the model on the test crops.", _plain("evaluate")),
    "predict": Order(
        "Predict slides",
        "Gives every pixel of the chosen slides a class, and finds the objects.",
        lambda recipe, _run, given: ("predict", recipe, *given),
        takes="slides",
    ),
    LEARN_NORMAL: Order(
        "Learn normal slides",
        "Measures the anomaly scores of slides without anomalies; what scores higher on others is unusual.",
        lambda recipe, _run, given: ("anomaly", recipe, *(word for path in given for word in ("--normal", path))),
        takes="slides",
    ),
    "anomaly": Order(
        "Find anomalies",
        "Marks on the chosen slides what the normal slides do not show, such as ink and dirt.",
        lambda recipe, _run, given: ("anomaly", recipe, *given),
        takes="slides",
    ),
    "queue": Order(
        "Fill the queue", "Chooses regions of predicted slides that are worth annotating next.", _plain("queue")
    ),
    "edit": Order(
        "Redraw a crop",
        "The diffusion model redraws a crop so that it shows its marks; for viewing only.",
        lambda recipe, run, given: ("edit", recipe, f"{run / given[0]}.png", "--map", f"{run / given[0]}.json"),
        takes="crop",
    ),
    "study": Order(
        "Study label efficiency",
        "Shows how the scores grow with the labelled crops: many trainings, hours.",
        _plain("study", "label-efficiency"),
    ),
    "robustness": Order(
        "Study robustness",
        "Shows up to which blur, noise, stain and other changes of the image the model is safe: hours.",
        _plain("study", "robustness"),
    ),
    "make-pairs": Order(
        "Make labelled samples",
        "Draws 2,000 samples of the diffusion model and labels them, to train a student: hours on a CPU.",
        _plain("make-pairs"),
    ),
}
"""Orders by command name."""


def command_of(name: str, run: Path, given: Sequence[str]) -> list[str]:
    """Return the arguments of an order, without the program.

    Args:
        name: Name of the command.
        run: The run folder, absolute.
        given: Absolute paths of slides, one of ``IMPORTED``, a crop in one of ``ANNOTATED``, or one of
            ``KINDS``.

    Raises:
        CytosegError: If the command may not be started, or its inputs are invalid.
    """
    order = ORDERS.get(name)
    if order is None:
        raise CytosegError(
            f"jobs: {name[:40]!r} is not a command that can be started. Choose one of {', '.join(ORDERS)}."
        )
    fits = {
        "": not given,
        "slides": bool(given) and all(Path(path).is_absolute() for path in given),
        "folder": len(given) == 1 and given[0] in IMPORTED,
        "crop": len(given) == 1 and _is_crop(given[0]),
        "kind": not given or (len(given) == 1 and given[0] in KINDS),
    }
    if not fits[order.takes]:
        wanted = {
            "": "nothing",
            "slides": "slides",
            "crop": "a crop",
            "folder": f"one of {', '.join(IMPORTED)}",
            "kind": f"one of {', '.join(KINDS)}",
        }
        raise CytosegError(f"jobs: {name} takes {wanted[order.takes]}. Choose again.")
    return list(order.words(str(run / "recipe.yaml"), run, given))


def _is_crop(given: str) -> bool:
    """Return whether this is a crop as ``folder/stem``, and no way out of the folder."""
    folder, _, stem = given.partition("/")
    return folder in ANNOTATED and is_file_name(stem) and not stem.startswith(".")
