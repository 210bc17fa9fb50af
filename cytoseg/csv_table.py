"""Tables for people as CSV: Excel sees that they are UTF-8, and no cell is taken for a formula."""

import csv
import re
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any

from cytoseg.writing import atomic_path

ENCODING = "utf-8-sig"
"""UTF-8 that begins with the mark by which Excel knows it; pandas, and Python under this name, pass over the mark."""

FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")  # Excel takes the wide forms for signs, too
"""How a formula can begin."""

Row = Iterable[Any]


class Numeral(str):
    """A number that is already written as text, so that its minus sign begins no formula."""


def inert(text: str) -> str:
    """Keep a spreadsheet from taking a text for a formula: an apostrophe goes before a sign that would begin one."""
    return f"'{text}" if FORMULA.match(text) else text


def csv_text(rows: Iterable[Row]) -> str:
    """Return a table as text, to be encoded with ``ENCODING``.

    Args:
        rows: Head and lines; texts among their values are made inert but for numerals, None becomes an empty cell.
    """
    text = StringIO(newline="")
    csv.writer(text).writerows(map(_cells, rows))
    return text.getvalue()


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write a table whole or not at all, row by row, so that it may be long.

    Args:
        path: The file.
        rows: As for ``csv_text``.

    Raises:
        OSError: If the disk is full or the folder cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding=ENCODING) as file:
        csv.writer(file, lineterminator="\n").writerows(map(_cells, rows))


def _cells(row: Row) -> list[Any]:
    # A lone carriage return would be written without quotes, and be read as the end of the line.
    return [inert(cell).replace("\r", "\n") if type(cell) is str else cell for cell in row]
