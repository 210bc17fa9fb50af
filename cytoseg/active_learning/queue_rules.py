"""What the queue needs of a recipe, read without the libraries that a whole recipe loads: the app opens in a second."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytoseg.active_learning.candidates import Frame
from cytoseg.active_learning.cut_crops import Cutting
from cytoseg.run_recipe import classes_of, read_part
from cytoseg.slides.folder_values import innermost


@dataclass(frozen=True)
class QueueRules:
    """What of a recipe decides the queue.

    Attributes:
        cutting: Size and resolution of the regions, and the classes.
        test_slides: Patterns of test slides; empty leaves them to chance.
        test_fraction: Share of the slides that chance puts on the test side.
        seed: Decides which.
        kind: Of the interpreter, whose curve estimates the gain.
    """

    cutting: Cutting
    test_slides: tuple[str, ...]
    test_fraction: float
    seed: int
    kind: str


def rules_of(values: Mapping[str, Any]) -> QueueRules:
    """Pick the rules out of a recipe as JSON can hold it, with all its keys.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: If a key is missing or of another type.
    """
    slides, labels = values["slides"], values["labels"]
    assumed, mpp = slides["assume_mpp"], slides["mpp"]

    def assumed_mpp(path: Path) -> float | None:
        if isinstance(assumed, Mapping):
            return innermost(path, {Path(folder): float(value) for folder, value in assumed.items()})
        return None if assumed is None else float(assumed)

    frame = Frame(int(values["labels"]["crop_px"]), None if mpp is None else float(mpp), assumed_mpp)
    return QueueRules(
        cutting=Cutting(frame, classes_of(values)),
        test_slides=tuple(str(pattern) for pattern in labels["test_slides"]),
        test_fraction=float(labels["test_fraction"]),
        seed=int(values["training"]["seed"]),
        kind=str(values["interpreter"]["kind"]),
    )


def read_rules(run: Path) -> QueueRules:
    """Read the rules of a run from the copy of its recipe, which every command leaves with all keys.

    Raises:
        RecipeError: If it is missing, damaged or of an older version.
    """
    return read_part(run, rules_of)
