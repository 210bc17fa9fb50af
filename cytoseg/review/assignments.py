"""Crops assigned to people, stored beside the reviewers' log.

Assignments are append-only: a later row of the same crop and person counts. A crop may be assigned to several people;
an unassigned one is free to take.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import URL, CheckConstraint, String, Text

from cytoseg.errors import LabelError
from cytoseg.labels.reviewer_names import clean_name, same_person
from cytoseg.review.append_only import add_row, growing_table, insert_row, read_rows, select_rows, writing

State = Literal["assigned", "withdrawn"]

_TABLE = growing_table(
    "crop_assignments",
    {"crop": Text(), "person": Text(), "state": String(16)},
    CheckConstraint("state IN ('assigned', 'withdrawn')", name="known_state"),
)


@dataclass(frozen=True)
class Assignment:
    """A crop given to a person, or withdrawn.

    Attributes:
        author: Who assigned or withdrew it.
        run: Name of the run, as in the log.
        crop: Id of the crop.
        person: The annotator.
        state: Whether the crop is assigned or withdrawn.
    """

    author: str
    run: str
    crop: str
    person: str
    state: State = "assigned"


@dataclass(frozen=True, kw_only=True)
class Entry(Assignment):
    """An assignment with its number and time (UTC, ISO 8601)."""

    id: int
    time: str


def assign(log: URL, said: Assignment) -> None:
    """Assign a crop to a person, or withdraw it, with the current time.

    Args:
        log: From ``append_only.log_of``.
        said: The assignment.

    Raises:
        LabelError: If a name is empty, or the database is damaged, or cannot be reached or written.
    """
    _check(said)
    add_row(log, _TABLE, said)


def take(log: URL, said: Assignment) -> None:
    """Assign a free crop to its author: of two people who take it at once, one gets it.

    Args:
        log: From ``append_only.log_of``.
        said: The assignment; the person is its author.

    Raises:
        LabelError: If the crop is assigned to another person, a name is empty, or the database cannot be written.
    """
    _check(said)
    with writing(log, _TABLE) as connection:
        entries = select_rows(connection, _TABLE, Entry, {"run": said.run, "crop": said.crop})
        people = assignees(entries).get(said.crop, ())
        if any(same_person(name, said.person) for name in people):
            return
        if people:
            raise LabelError(f"{said.crop}: is assigned to {', '.join(people)}. Take another crop, or ask for it.")
        insert_row(connection, _TABLE, said)


def read_assignments(log: URL, **wanted: str) -> list[Entry]:
    """Read the assignments with the wanted column values, such as ``run="lbc"``, oldest first.

    Raises:
        LabelError: If the database is damaged or cannot be reached.
    """
    return read_rows(log, _TABLE, Entry, wanted)


def assignees(entries: Iterable[Entry]) -> dict[str, tuple[str, ...]]:
    """Return the people to whom each crop is assigned now; unassigned crops are left out."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        others = tuple(name for name in found.get(entry.crop, ()) if not same_person(name, entry.person))
        found[entry.crop] = (*others, entry.person) if entry.state == "assigned" else others
    return {crop: people for crop, people in found.items() if people}


def in_order(crops: Sequence[str], assigned: Mapping[str, Sequence[str]], person: str) -> list[str]:
    """Order crops for a person: those assigned to the person, then free ones, then those of others."""

    def place(crop: str) -> int:
        people = assigned.get(crop, ())
        return 0 if any(same_person(name, person) for name in people) else 2 if people else 1

    return sorted(crops, key=place)


def _check(said: Assignment) -> None:
    for name in (said.author, said.person):
        if not name or clean_name(name) != name:
            raise LabelError(f"{said.crop}: {name!r} is not a valid name. Enter a name before you assign.")
