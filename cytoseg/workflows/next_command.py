"""The suggested next command after each command."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cytoseg.errors import CytosegError
from cytoseg.recipe import load_recipe
from cytoseg.terminal import say_next

Given = Mapping[str, Any]
"""Parameters of a command, by name."""


def _folders(slides: Sequence[Path]) -> list[str]:
    return [word for path in slides if path.is_dir() and path.suffix != ".zarr" for word in ("--folder", str(path))]


def _after_features(given: Given) -> tuple[str, str]:
    """Name what follows a command that needs no labels."""
    try:
        labels = load_recipe(given["recipe"], given.get("overrides") or ()).labels_folder()
    except CytosegError:  # the recipe was changed while the command ran
        return "label-crops", given["recipe"]
    return annotate_or_train(labels), given["recipe"]


def annotate_or_train(labels: Path) -> str:
    """Return the command that follows once features exist: to annotate crops, or to train where labels are imported.

    Args:
        labels: The labels folder of a run, which the first import makes.
    """
    return "train-interpreter" if labels.is_dir() else "label-crops"


FOLLOWING: Mapping[str, Callable[[Given], tuple[str, ...] | None]] = {
    "train-ddpm": lambda given: None if given["gpus"] else _after_features(given),
    "train-autoencoder": lambda given: None if given["gpus"] else ("train-ddpm", given["recipe"]),
    "import-model": lambda given: ("recipe", "check", "RECIPE", f"training.init={given['folder']}"),
    "sample": _after_features,
    "edit": lambda given: ("review", given["recipe"]),
    "score-samples": lambda given: ("report", given["recipe"]),
    "export": lambda given: ("train-ddpm", "OTHER.yaml", "--init", str(given["folder"])),
    "label-import": lambda given: ("train-interpreter", given["recipe"]),
    "label-export": lambda given: ("label-import", str(given["folder"]), "--recipe", given["recipe"]),
    "select-features": lambda given: ("train-interpreter", given["recipe"]),
    "train-interpreter": lambda given: ("evaluate", given["recipe"]),
    "evaluate": lambda given: ("predict", given["recipe"], "SLIDE"),
    "compare": lambda given: ("study", "label-efficiency", given["recipe"]),
    "study label-efficiency": lambda given: ("queue", given["recipe"]),
    "study robustness": lambda given: ("predict", given["recipe"], "SLIDE"),
    "study architectures": lambda given: ("train-ddpm", given["recipe"]),
    "anomaly": lambda given: ("review", given["recipe"]),
    "predict": lambda given: ("review", "RECIPE") if Path(given["target"]).is_dir() else ("review", given["target"]),
    "report": lambda given: ("review", given["recipe"]),
    "slides info": lambda given: ("recipe", "new", "mylab.yaml", *_folders(given["slides"])),
    "slides convert": lambda given: ("slides", "info", str(given["out"])),
    "slides generate": lambda given: ("recipe", "new", "mylab.yaml", "--folder", str(given["out"] / "slides")),
    "doctor": lambda given: _after_features(given) if given["recipe"] else ("recipe", "new", "mylab.yaml"),
}
"""Next command by command; some commands print their own, and ``review`` does not end by itself."""


def name_next(command: str, given: Given) -> None:
    """Print the next command.

    Args:
        command: The command that succeeded, such as ``study label-efficiency``.
        given: Its parameters.
    """
    following = FOLLOWING.get(command)
    words = None if following is None else following(given)
    if words is not None:
        say_next(*words)
