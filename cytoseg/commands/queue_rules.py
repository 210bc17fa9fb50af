"""What the queue needs of a recipe, read without the libraries that a whole recipe loads: the app opens in a second."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cytoseg.classes import ClassList
from cytoseg.commands.chosen_crops import Cutting
from cytoseg.errors import RecipeError
from cytoseg.predict.candidates import Frame
from cytoseg.slides.folders import innermost


@dataclass(frozen=True)
class QueueRules:
    """What of a recipe decides the queue.

    Attributes:
        cutting: Size and resolution of the regions, and the classes.
        test_slides: Patterns of test slides; empty leaves them to chance.
        test_fraction: Share of the slides that chance puts on the test side.
        seed: Decides which.
        kind: Of the interpreter, whose curve estimates the gain.
        labels: Folder of the imported labels, None for labels/ in the run folder.
    """

    cutting: Cutting
    test_slides: tuple[str, ...]
    test_fraction: float
    seed: int
    kind: str
    labels: Path | None


def rules_of(values: Mapping[str, Any]) -> QueueRules:
    """Pick the rules out of a recipe as JSON can hold it, with all its keys.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: If a key is missing or of another type.
    """
    slides, labels, classes = values["slides"], values["labels"], values["classes"]
    names = tuple(str(entry["name"]) for entry in classes)
    colours = tuple(_colour(entry["colour"]) for entry in classes)
    assumed, mpp = slides["assume_mpp"], slides["mpp"]

    def assumed_mpp(path: Path) -> float | None:
        if isinstance(assumed, Mapping):
            return innermost(path, {Path(folder): float(value) for folder, value in assumed.items()})
        return None if assumed is None else float(assumed)

    frame = Frame(int(values["crops"]["size_px"]), None if mpp is None else float(mpp), assumed_mpp)
    return QueueRules(
        cutting=Cutting(frame, ClassList(names, colours, values["fill"])),
        test_slides=tuple(str(pattern) for pattern in labels["test_slides"]),
        test_fraction=float(labels["test_fraction"]),
        seed=int(values["training"]["seed"]),
        kind=str(values["interpreter"]["kind"]),
        labels=None if labels["folder"] is None else Path(labels["folder"]),
    )


def read_rules(run: Path) -> QueueRules:
    """Read the rules of a run from the copy of its recipe, which every command leaves with all keys.

    Raises:
        RecipeError: If it is missing, damaged or of an older version.
    """
    try:
        return rules_of(YAML(typ="safe", pure=True).load((run / "recipe.yaml").read_text(encoding="utf-8")))
    except (OSError, YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        why = type(error).__name__
        raise RecipeError(
            f"recipe.yaml of this run cannot be used ({why}): it is damaged or of another version. Run "
            "`cytoseg queue RECIPE` to write it anew."
        ) from error


def _colour(text: str) -> tuple[int, int, int]:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
