"""Sign-offs of predicted slides, stored beside the reviewers' log.

A verdict is approved, rejected or needs labels. Sign-offs are append-only; the latest of a slide counts, and only for
the bundle of its prediction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import URL, CheckConstraint, String, Text

from cytoseg.csv_table import csv_text
from cytoseg.predict.sign_off_file import is_outdated
from cytoseg.review.append_only import add_row, growing_table, read_rows, text_rows

Verdict = Literal["approved", "rejected", "needs labels"]
VERDICTS: tuple[Verdict, ...] = ("approved", "rejected", "needs labels")

_TABLE = growing_table(
    "slide_approvals",
    {"slide": Text(), "verdict": String(16), "comment": Text(), "bundle": String(64)},
    CheckConstraint("verdict IN ('approved', 'rejected', 'needs labels')", name="known_verdict"),
)


@dataclass(frozen=True)
class SignOff:
    """A reviewer's verdict on a predicted slide.

    Attributes:
        author: Name of the annotator.
        run: Name of the run, as in the log.
        slide: Key of the slide.
        verdict: The verdict.
        comment: Free text; may be empty.
        bundle: Hash of the prediction's bundle; empty if unknown.
    """

    author: str
    run: str
    slide: str
    verdict: Verdict
    comment: str = ""
    bundle: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry(SignOff):
    """A sign-off with its number and time (UTC, ISO 8601)."""

    id: int
    time: str


def sign_off(log: URL, said: SignOff) -> None:
    """Add a sign-off with the current time.

    Args:
        log: From ``append_only.log_of``.
        said: The sign-off to store.

    Raises:
        LabelError: If the database is damaged, or cannot be reached or written.
    """
    add_row(log, _TABLE, said)


def read_sign_offs(log: URL, **wanted: str) -> list[Entry]:
    """Read the sign-offs with the wanted column values, such as ``run="lbc"``, oldest first.

    Raises:
        LabelError: If the database is damaged or cannot be reached.
    """
    return read_rows(log, _TABLE, Entry, wanted)


def latest(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Return the latest sign-off of each slide."""
    return {entry.slide: entry for entry in entries}


def sign_off_csv(entries: Sequence[Entry], bundles: Mapping[str, str]) -> str:
    """Write sign-offs as CSV for a spreadsheet.

    Args:
        entries: Entries in row order.
        bundles: Hash of the current bundle of each slide's prediction, by slide key.
    """
    head, *lines = text_rows(_TABLE, entries)
    outdated = (is_outdated(entry.bundle, bundles.get(entry.slide, "")) for entry in entries)
    marked = [[*line, "no" if is_old else "yes"] for line, is_old in zip(lines, outdated, strict=True)]
    return csv_text([[*head, "of this prediction"], *marked])
