"""The append-only log of accepted, rejected, corrected or commented crops.

It is an SQLite file in the run folder, or a shared database. The database itself refuses to change or remove entries;
deleting the whole file is still possible.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import URL, CheckConstraint, Connection, String, Text

from cytoseg.csv_table import csv_text
from cytoseg.review.append_only import add_row, growing_table, read_rows, select_rows, text_rows

Action = Literal["accepted", "rejected", "corrected", "commented"]

_TABLE = growing_table(
    "review_log",
    {"crop": Text(), "slide": Text(), "action": String(16), "comment": Text(), "file": Text(), "sha256": String(64)},
    CheckConstraint("action IN ('accepted', 'rejected', 'corrected', 'commented')", name="known_action"),
)


@dataclass(frozen=True)
class Judgement:
    """A reviewer's judgement of a crop.

    Attributes:
        author: Name of the annotator.
        run: Name of the run, with a distinguishing suffix in a shared database.
        crop: Id of the crop, or the region on the slide.
        slide: Name of the slide.
        action: The action.
        comment: Free text; may be empty.
        file: File of the correction, relative to the run folder; empty if there is none.
        sha256: SHA-256 of that file, 64 hexadecimal digits; empty if there is none.
    """

    author: str
    run: str
    crop: str
    slide: str
    action: Action
    comment: str = ""
    file: str = ""
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry(Judgement):
    """A judgement in the log with its number and time (UTC, ISO 8601)."""

    id: int
    time: str


def add_entry(log: URL, judgement: Judgement) -> None:
    """Add an entry; safe for concurrent processes and machines.

    Args:
        log: From `append_only.log_of`; the table is created if missing.
        judgement: The judgement, logged with the current time.

    Raises:
        LabelError: If the database is damaged, or cannot be reached or written.
    """
    add_row(log, _TABLE, judgement)


def read_entries(log: URL, **wanted: str) -> list[Entry]:
    """Read entries.

    Args:
        log: From `append_only.log_of`.
        wanted: Required column values, such as ``run="lbc"``.

    Returns:
        The entries, oldest first.

    Raises:
        LabelError: If the database is damaged or cannot be reached.
    """
    return read_rows(log, _TABLE, Entry, wanted)


def entries_within(connection: Connection, **wanted: str) -> list[Entry]:
    """Read entries within a transaction; see ``read_entries``."""
    return select_rows(connection, _TABLE, Entry, wanted)


def log_csv(entries: Sequence[Entry]) -> str:
    """Write entries as CSV for a spreadsheet.

    Args:
        entries: Entries in row order.

    Returns:
        CSV with a header, times in UTC. An apostrophe precedes text that a spreadsheet would read as a formula.
    """
    return csv_text(text_rows(_TABLE, entries))
