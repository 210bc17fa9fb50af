"""Resolving conflicts of two people by a third, recorded beside the reviewers' log."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import URL, CheckConstraint, String, Text

from cytoseg.classes import ClassList
from cytoseg.csv_table import csv_text
from cytoseg.errors import LabelError
from cytoseg.labels.corrections import now
from cytoseg.labels.drawn_marks import Drawn, save_marks
from cytoseg.labels.readings import crop_locked, keep_marks
from cytoseg.labels.reviewer_names import clean_name
from cytoseg.review.append_only import growing_table, insert_row, read_rows, select_rows, text_rows, writing
from cytoseg.review.conflicts import Conflict, Side, compare_people, may_resolve

Choice = Literal["first", "second", "drawn from first", "drawn from second"]

_TABLE = growing_table(
    "conflict_resolutions",
    {
        "crop": Text(),
        "slide": Text(),
        "choice": String(24),
        "first": Text(),
        "second": Text(),
        "first_sha256": String(64),
        "second_sha256": String(64),
        "comment": Text(),
    },
    CheckConstraint("choice IN ('first', 'second', 'drawn from first', 'drawn from second')", name="known_choice"),
)


@dataclass(frozen=True)
class Resolution:
    """A third person's decision between two people's marks of a crop.

    Attributes:
        author: Name of the third person.
        run: Name of the run, as in the log.
        crop: Id of the crop.
        slide: Id of its slide.
        choice: Whose marks count, or from whose the third person continues drawing.
        first: Name of the first person.
        second: Name of the second person.
        first_sha256: Hash of the first person's label map.
        second_sha256: Hash of the second person's label map.
        comment: Free text; may be empty.
    """

    author: str
    run: str
    crop: str
    slide: str
    choice: Choice
    first: str
    second: str
    first_sha256: str
    second_sha256: str
    comment: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry(Resolution):
    """A resolution with its number and time (UTC, ISO 8601)."""

    id: int
    time: str


@dataclass(frozen=True)
class Decision:
    """Who decides, what, and why."""

    author: str
    choice: Choice
    comment: str = ""


def resolve(log: URL, run: str, conflict: Conflict, decision: Decision, classes: ClassList) -> None:
    """Make one person's marks those that training uses, and record it; all earlier marks are kept.

    Args:
        log: From ``append_only.log_of``.
        run: Name of the run, as in the log.
        conflict: The conflict as the third person has seen it.
        decision: The decision. Drawing continues on the crop's own marks, which then belong to the person who decides.
        classes: Names of the ids.

    Raises:
        LabelError: If the person may not resolve it, the conflict has changed or was resolved meanwhile, or something
            cannot be written: the marks that training uses are unchanged then.
    """

    def present() -> list[Conflict]:
        return compare_people([conflict.picture], classes, ()).conflicts

    with crop_locked(conflict.picture), recorded(log, run, conflict, decision, present) as side:
        keep_marks(conflict.picture)
        people = conflict.sides[0].person, conflict.sides[1].person
        save_marks(conflict.picture, Drawn(decision.author, now(), people), side.ids, classes)


@contextmanager
def recorded(
    log: URL, run: str, conflict: Conflict, decision: Decision, present: Callable[[], list[Conflict]]
) -> Iterator[Side]:
    """Record a decision if the block succeeds, in which the marks that were taken are written.

    Args:
        log: From ``append_only.log_of``.
        run: Name of the run, as in the log.
        conflict: The conflict as the third person has seen it.
        decision: The decision.
        present: Finds the conflicts of the crop as they are now.

    Yields:
        The marks that were taken.

    Raises:
        LabelError: If the person may not resolve it, the conflict has changed or was resolved meanwhile, or the
            database cannot be written.
    """
    author = decision.author
    if not author or clean_name(author) != author:
        raise LabelError(f"{conflict.crop}: {author!r} is not a valid name. Enter your name before you decide.")
    first, second = conflict.sides
    hashes = first.sha256, second.sha256
    people = first.person, second.person
    said = Resolution(
        author, run, conflict.crop, conflict.slide, decision.choice, *people, *hashes, comment=decision.comment
    )
    with writing(log, _TABLE) as connection:
        done = resolved_pairs(select_rows(connection, _TABLE, Entry, {"run": run, "crop": conflict.crop}))
        if (conflict.crop, conflict.pair) in done:
            raise LabelError(f"{conflict.crop}: this conflict has been resolved meanwhile. Reload the page.")
        _check_unchanged(conflict, author, present())
        insert_row(connection, _TABLE, said)
        # Within the transaction: if the marks cannot be written, nothing is recorded.
        yield first if decision.choice.endswith("first") else second


def read_resolutions(log: URL, **wanted: str) -> list[Entry]:
    """Read the resolutions with the wanted column values, such as ``run="lbc"``, oldest first.

    Raises:
        LabelError: If the database is damaged or cannot be reached.
    """
    return read_rows(log, _TABLE, Entry, wanted)


def resolved_pairs(entries: Iterable[Entry]) -> set[tuple[str, frozenset[str]]]:
    """Return crop and hashes of both maps of each resolution, for ``compare_people``."""
    return {(entry.crop, frozenset((entry.first_sha256, entry.second_sha256))) for entry in entries}


def resolution_csv(entries: Sequence[Entry]) -> str:
    """Write resolutions as CSV for a spreadsheet."""
    return csv_text(text_rows(_TABLE, entries))


def _check_unchanged(conflict: Conflict, author: str, present: Iterable[Conflict]) -> None:
    """Refuse a conflict that is not as it was shown, or that this person may not resolve."""
    same = [one for one in present if one.pair == conflict.pair]
    if not same:
        raise LabelError(f"{conflict.crop}: the marks have changed since you opened it. Check them again.")
    if not may_resolve(same[0], author):
        raise LabelError(
            f"{conflict.crop}: {author} has marked this crop, and no one resolves their own conflict. Ask "
            "a person who has not marked it."
        )
