"""CSV tables that Excel opens as UTF-8, without formula injection."""

import csv
import re
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any

from cytoseg.writing import atomic_path

ENCODING = "utf-8-sig"
"""UTF-8 with the byte order mark that Excel needs; pandas, and Python with this codec, skip the mark."""

# Blanks that programs trim; Excel also accepts the full-width signs.
_BLANK = "[\0-\x20\xa0\u1680\u2000-\u200f\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]"
FORMULA = f"(^|[;\t\n])({_BLANK}*[=+\\-@＝＋－＠]|[\t\r\n])"
"""Pattern of the start of a formula and what may precede it: where the decimal sign is a comma, Excel splits a table at
semicolons, and treats quotes as such only at the start of a cell."""

INERT = FORMULA.replace(")(", ")'(", 1)
"""Pattern of what ``inert`` makes of them."""

Row = Iterable[Any]


class Numeral(str):
    """A number already formatted as text, whose minus sign does not start a formula."""


def inert(text: str) -> str:
    """Prevent formula injection: put an apostrophe before text that a spreadsheet would read as a formula."""
    return re.sub(FORMULA, r"\1'\2", text)


def original(text: str) -> str:
    """Return the text that ``inert`` was given; one that already began with its apostrophe loses it."""
    return re.sub(INERT, r"\1\2", text)


def csv_text(rows: Iterable[Row]) -> str:
    """Return a table as CSV text, to be encoded with ``ENCODING``.

    Args:
        rows: Header and rows; strings are made inert except numerals, None becomes an empty cell.
    """
    text = StringIO(newline="")
    csv.writer(text).writerows(map(_cells, rows))
    return text.getvalue()


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write a table atomically and row by row, so that it may be long.

    Args:
        path: The file.
        rows: As for ``csv_text``.

    Raises:
        OSError: If the disk is full or the folder cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding=ENCODING) as file:
        csv.writer(file, lineterminator="\n").writerows(map(_cells, rows))


def _cells(row: Row) -> list[Any]:
    # A lone carriage return would be written unquoted and read back as the end of the line.
    return [inert(cell).replace("\r", "\n") if type(cell) is str else cell for cell in row]
