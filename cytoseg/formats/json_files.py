"""Loading other programs' JSON, with checks of points and lines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytoseg.errors import FileContentError, LabelError
from cytoseg.formats.compressed_text import read_unpacked
from cytoseg.formats.encodings import encoding_of
from cytoseg.json_text import Numbers, parse_json
from cytoseg.quoting import short_repr

MAX_COORDINATE = 10_000_000
"""No image is this wide; a larger coordinate is a mistake."""

MAX_LINE_POINTS = 100_000
"""Longer lines are refused: following each segment takes time and memory."""

_CONVERT = "What is in another encoding can be converted with iconv."

_NUMBERS = frozenset((int, float))

KEPT_BYTES = 32_000_000
"""Text whose content is kept between inspecting files and reading them; parsed, it takes up to twelve times as much."""

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class JsonFile:
    """Content of a JSON file, the encoding of its text, and the length of its text."""

    content: object
    encoding: str
    text_bytes: int


class Inspected:
    """Content of the files that were parsed to find out what they are, so that reading them needs no second parse.

    Files that would make it more than ``KEPT_BYTES`` are parsed again when they are read.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[Path, str | None], JsonFile] = {}
        self._bytes = 0

    def inspect(self, path: Path, *, name: str, advice: str, member: str | None = None) -> object:
        """Load a JSON file like ``load_json``, and keep its content until it is taken."""
        if (path, member) in self._kept:
            return self._kept[path, member].content
        found = read_json(path, name=name, advice=advice, member=member)
        if self._bytes + found.text_bytes <= KEPT_BYTES:
            self._kept[path, member] = found
            self._bytes += found.text_bytes
        return found.content

    def kept(self, path: Path) -> object | None:
        """Return the content of a file if it is kept."""
        found = self._kept.get((path, None))
        return None if found is None else found.content

    def take(self, path: Path, *, name: str, advice: str, member: str | None = None) -> JsonFile:
        """Load a JSON file like ``read_json``, or hand out what is kept of it."""
        found = self._kept.pop((path, member), None)
        if found is None:
            return read_json(path, name=name, advice=advice, member=member)
        self._bytes -= found.text_bytes
        return found


def load_json(path: Path, *, name: str, advice: str, numbers: Numbers = "any", member: str | None = None) -> object:
    """Load a JSON file, compressed or not, like `read_json` but only its content."""
    return read_json(path, name=name, advice=advice, numbers=numbers, member=member).content


def read_json(path: Path, *, name: str, advice: str, numbers: Numbers = "any", member: str | None = None) -> JsonFile:
    """Load a JSON file.

    Args:
        path: The file, or a .gz or .zip of it.
        name: Its name in messages.
        advice: Last sentence of a message, what to do about a damaged file.
        numbers: See ``json_text.load_json``.
        member: Which file of a .zip; None if it contains only one.

    Returns:
        The parsed value, and its encoding: UTF-8, UTF-16, UTF-32, or guessed GBK or Windows-1252.

    Raises:
        LabelError: If it is missing, not complete JSON, or in another encoding.
    """
    try:
        data = read_unpacked(path, name=name, member=member)
        encoding = encoding_of(data)
        text = data if encoding.startswith("utf-8") else data.decode(encoding)
        return JsonFile(parse_json(text, name=name, numbers=numbers), encoding, len(data))
    except UnicodeDecodeError as error:
        raise LabelError(f"{name}: is not UTF-8 text ({error.reason}). {advice} {_CONVERT}") from error
    except FileContentError as error:
        other = f" {_CONVERT}" if error.why.startswith("is not UTF-8 text") else ""
        raise LabelError(f"{name}: {error.why}. {advice}{other}") from error
    except OSError as error:
        raise LabelError(f"{name}: cannot be read ({error.strerror}). Check that it exists and is readable.") from error


def checked_points(value: Sequence[Sequence[object]], where: str) -> Points:
    """Convert lists of numbers, starting with x and y, to points.

    Args:
        value: Parsed JSON.
        where: Their name in messages.

    Returns:
        (x, y) in pixels.

    Raises:
        LabelError: If a coordinate is not a number or is implausibly large.
    """
    numbers = [number for point in value for number in point[:2]]
    if not _are_coordinates(numbers):
        wrong = next(number for number in numbers if not _are_coordinates([number]))
        raise LabelError(f"{where}: coordinate {short_repr(wrong)} is not a number of pixels. Draw the shape again.")
    flat = map(float, numbers)  # type: ignore[arg-type] # all are numbers
    return tuple(zip(flat, flat, strict=True))


def _are_coordinates(numbers: Sequence[Any]) -> bool:
    """Check all at once, because this is done for every point of every shape."""
    if not numbers:
        return True
    if not _NUMBERS.issuperset(map(type, numbers)):
        return False
    # The sum finds NaN, of which comparisons are False and which min and max may skip.
    return min(numbers) >= -MAX_COORDINATE and max(numbers) <= MAX_COORDINATE and not math.isnan(sum(numbers))


def check_line(points: Points, where: str) -> None:
    """Refuse a line with too many points.

    Raises:
        LabelError: If there are more than ``MAX_LINE_POINTS``.
    """
    if len(points) > MAX_LINE_POINTS:
        raise LabelError(
            f"{where}: a line has at most {MAX_LINE_POINTS:,} points, found {len(points):,}. "
            "Draw it again or delete it."
        )


def kind_of(value: object) -> str:
    """Name the kind of a JSON value."""
    kinds = {dict: "a table", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
