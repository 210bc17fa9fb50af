"""Validation of paths, overrides and seeds passed to the API."""

import os
from collections.abc import Iterable
from pathlib import Path

from cytoseg.errors import ArrayError, CytosegError, RecipeError
from cytoseg.quoting import short_repr

NOT_IN_ORDER = (str, bytes, set, frozenset, dict)
"""Iterables that are no list of values: letters, no order, or keys whose values may say another order."""
_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes and characters; counted, because a dead share would not answer


def as_path(path: str | os.PathLike[str], *, error: type[CytosegError], is_new: bool = False) -> Path:
    """Convert a path, and refuse one that no file can have.

    Args:
        path: What was passed.
        error: Class of the error.
        is_new: Whether something is written there, which takes a name.

    Raises:
        CytosegError: Of the given class, if the path is too long or contains a null character, or lacks a name.
        TypeError: If it is not a path at all.
    """
    found = Path(path)
    if is_new and not found.name:
        raise error(f"{short_repr(os.fspath(path))}: has no name. Write the name of a folder.")
    text = str(found)
    longest = max((len(part.encode(errors="replace")) for part in found.parts), default=0)
    if "\0" in text or longest > _LONGEST_NAME or len(text) > _LONGEST_PATH:
        raise error(f"{short_repr(text)}: is not a path, it is too long or contains a null character. Check it.")
    return found


def as_texts(values: object, *, name: str, error: type[CytosegError]) -> list[str]:
    """Validate a list of texts; a single text would be taken for a list of its letters, and a set has no order.

    Raises:
        CytosegError: Of the given class, if it is anything else.
    """
    found = list(values) if isinstance(values, Iterable) and not isinstance(values, NOT_IN_ORDER) else None
    if found is None or not all(isinstance(value, str) for value in found):
        raise error(f"{name}: found {short_repr(values)}, but a list of texts is wanted.")
    return [str(value) for value in found]


def as_overrides(overrides: object) -> list[str]:
    """Validate overrides of a recipe.

    Raises:
        RecipeError: If they are not a list of texts.
    """
    return as_texts(overrides, name="overrides (such as ['training.crops=20000'])", error=RecipeError)


def as_seed(seed: object) -> int:
    """Validate a seed.

    Raises:
        ArrayError: If it is not a whole number from 0.
    """
    try:
        number = seed.__index__()  # type: ignore[attr-defined] # whole numbers of any library have it
    except (AttributeError, TypeError):
        number = -1
    if number < 0:
        raise ArrayError(f"seed: found {short_repr(seed)}, but a whole number from 0 is wanted.")
    return int(number)
