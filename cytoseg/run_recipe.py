"""Parts of a run's recipe, read without the libraries that a whole recipe loads: the app opens in a second."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from cytoseg.classes import ClassList
from cytoseg.errors import RecipeError
from cytoseg.yaml_text import load_yaml

Part = TypeVar("Part")


@dataclass(frozen=True)
class ViewRules:
    """What of a recipe decides which slides are shown, and how.

    Attributes:
        folders: To search for slides; relative to the folder the command was started in.
        include: Globs within them.
        exclude: Globs of what to leave out.
        classes: Names and colours.
    """

    folders: tuple[Path, ...]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    classes: ClassList


def view_rules_of(values: Mapping[str, Any]) -> ViewRules:
    """Pick the rules out of a recipe as JSON can hold it, with all its keys.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: If a key is missing or of another type.
    """
    slides = values["slides"]
    return ViewRules(
        folders=tuple(Path(folder) for folder in slides["folders"]),
        include=_texts(slides["include"]),
        exclude=_texts(slides["exclude"]),
        classes=classes_of(values),
    )


def classes_of(values: Mapping[str, Any]) -> ClassList:
    """Give the class list of a recipe as JSON can hold it.

    Raises:
        KeyError, TypeError, ValueError: If a key is missing or of another type.
    """
    names = tuple(str(entry["name"]) for entry in values["classes"])
    colours = tuple(_colour(entry["colour"]) for entry in values["classes"])
    return ClassList(names, colours, values["fill"])


def labels_folder(run: Path, base: Path) -> Path:
    """Give the folder of a run's imported labels.

    Args:
        run: The run folder.
        base: What a relative path in the recipe starts from.

    Raises:
        RecipeError: If the recipe is missing, damaged or of an older version.
    """
    named = read_part(run, _labels_of)
    return run / "labels" if named is None else base / named


def _labels_of(values: Mapping[str, Any]) -> str | None:
    named = values["labels"]["folder"]
    return None if named is None else str(named)


def read_part(run: Path, pick: Callable[[Mapping[str, Any]], Part]) -> Part:
    """Pick something out of the copy of a run's recipe, which every command leaves with all keys.

    Read once for each time that it is written.

    Args:
        run: The run folder.
        pick: Takes the recipe as JSON can hold it, and gives something that nobody changes.

    Raises:
        RecipeError: If it is missing, damaged or of an older version.
    """
    path = run / "recipe.yaml"
    try:
        return cast(Part, _picked(path, path.stat().st_mtime_ns, pick))
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        why = type(error).__name__
        raise RecipeError(
            f"recipe.yaml of this run cannot be used ({why}): it is damaged or of another version. Run "
            "`cytoseg queue RECIPE` to write it anew."
        ) from error


@lru_cache(maxsize=64)
def _picked(path: Path, written_ns: int, pick: Callable[[Mapping[str, Any]], object]) -> object:
    return pick(load_yaml(path))


def _texts(found: object) -> tuple[str, ...]:
    if not isinstance(found, list):  # a single text would be taken for its letters
        raise TypeError(found)
    return tuple(str(text) for text in found)


def _colour(text: str) -> tuple[int, int, int]:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
