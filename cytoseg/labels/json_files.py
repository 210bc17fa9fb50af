"""Load JSON that somebody else wrote, and say in a message what was found in it."""

from collections.abc import Sequence
from pathlib import Path

from cytoseg.errors import FileContentError, LabelError
from cytoseg.json_text import Numbers
from cytoseg.json_text import load_json as load_within_limits
from cytoseg.quoting import shown

MAX_COORDINATE = 10_000_000
"""No picture is that many pixels wide; a point beyond it is a mistake."""

Points = tuple[tuple[float, float], ...]


def load_json(path: Path, *, name: str, again: str, numbers: Numbers = "any") -> object:
    """Load a JSON file.

    Args:
        path: The file; a byte order mark is passed over.
        name: What to call it in a message.
        again: Last sentence of a message: what to do about a damaged file.
        numbers: See ``json_text.load_json``.

    Returns:
        What it holds.

    Raises:
        LabelError: If it is missing or not whole JSON in UTF-8.
    """
    try:
        return load_within_limits(path, name=name, numbers=numbers)
    except FileContentError as error:
        raise LabelError(f"{name}: {error.why}. {again}") from error
    except OSError as error:
        raise LabelError(
            f"{name}: cannot be read ({error.strerror}). Check that it is there and may be read."
        ) from error


def checked_points(value: Sequence[Sequence[object]], where: str) -> Points:
    """Turn lists of numbers, x and y first, into points.

    Args:
        value: As JSON gave them.
        where: What to call them in a message.

    Returns:
        (x, y) in pixels.

    Raises:
        LabelError: If one is not a number, or is so large that it cannot be a number of pixels.
    """
    points = []
    for x, y, *_ in value:
        for number in (x, y):
            # Not <= also refuses NaN.
            if type(number) not in (int, float) or not abs(number) <= MAX_COORDINATE:  # type: ignore[arg-type] # a number by then
                raise LabelError(
                    f"{where}: coordinate {shown(number)} is not a number of pixels. Draw the shape again."
                )
        points.append((float(x), float(y)))  # type: ignore[arg-type] # both are numbers
    return tuple(points)


def kind_of(value: object) -> str:
    """Name a JSON value's kind in words."""
    kinds = {dict: "a table", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
