"""Crops that some people accept and others reject, and resolving them by a third person."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from sqlalchemy import URL, CheckConstraint, String, Text

from cytoseg.csv_table import csv_text
from cytoseg.errors import LabelError
from cytoseg.labels.reviewer_names import clean_name, same_person
from cytoseg.metrics.agreement import agreement
from cytoseg.review import review_log
from cytoseg.review.append_only import growing_table, insert_row, read_rows, select_rows, text_rows, writing
from cytoseg.review.inter_rater import Pair

Verdict = Literal["accepted", "rejected"]
VERDICTS: tuple[Verdict, ...] = ("accepted", "rejected")

_TABLE = growing_table(
    "judgement_resolutions",
    {
        "crop": Text(),
        "slide": Text(),
        "verdict": String(16),
        "accepted_by": Text(),
        "rejected_by": Text(),
        "judgements": String(64),
        "comment": Text(),
    },
    CheckConstraint("verdict IN ('accepted', 'rejected')", name="known_verdict"),
)


@dataclass(frozen=True)
class JudgementConflict:
    """A crop with the latest judgements of the people who accept it and of those who reject it, by name."""

    crop: str
    slide: str
    accepted: tuple[review_log.Entry, ...]
    rejected: tuple[review_log.Entry, ...]

    @property
    def people(self) -> tuple[str, ...]:
        """Everyone who has judged the crop."""
        return tuple(entry.author for entry in (*self.accepted, *self.rejected))

    @property
    def sha256(self) -> str:
        """Hash of the judgements, by which a resolution knows what it resolves; 64 hexadecimal digits."""
        said = [f"{one.time} {one.author} {one.action}" for one in (*self.accepted, *self.rejected)]
        return hashlib.sha256("\n".join([self.crop, *said]).encode()).hexdigest()


@dataclass(frozen=True)
class JudgementResolution:
    """A third person's verdict on a crop that others judged differently.

    Attributes:
        author: Name of the third person.
        run: Name of the run, as in the log.
        crop: Id of the crop.
        slide: Name of the slide.
        verdict: The verdict.
        accepted_by: Names of those who accepted it.
        rejected_by: Names of those who rejected it.
        judgements: Hash of their judgements.
        comment: Free text; may be empty.
    """

    author: str
    run: str
    crop: str
    slide: str
    verdict: Verdict
    accepted_by: str
    rejected_by: str
    judgements: str
    comment: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry(JudgementResolution):
    """A resolution with its number and time (UTC, ISO 8601)."""

    id: int
    time: str


def find_judgement_conflicts(
    entries: Iterable[review_log.Entry], resolved: Iterable[Entry] = ()
) -> list[JudgementConflict]:
    """List the crops that some people accept and others reject; each person's latest judgement counts.

    Args:
        entries: The log of a run, oldest first; corrections and comments are not judgements.
        resolved: Resolutions so far.

    Returns:
        The open conflicts, by crop.
    """
    done = {one.judgements for one in resolved}
    found = []
    for crop, latest in sorted(_latest(entries).items()):
        sides = [[one for one in latest if one.action == verdict] for verdict in VERDICTS]
        if all(sides):
            found.append(JudgementConflict(crop, latest[-1].slide, *map(tuple, sides)))
    return [one for one in found if one.sha256 not in done]


def may_judge(conflict: JudgementConflict, person: str) -> bool:
    """Return whether a person is a third one, who has not judged the crop."""
    return bool(person) and not any(same_person(name, person) for name in conflict.people)


def resolve_judgements(
    log: URL, run: str, conflict: JudgementConflict, *, author: str, verdict: Verdict, comment: str = ""
) -> None:
    """Record a third person's verdict; the judgements themselves stay as they are.

    Args:
        log: From ``append_only.log_of``.
        run: Name of the run, as in the log.
        conflict: The conflict as the third person has seen it.
        author: Name of the third person.
        verdict: The verdict.
        comment: Free text; may be empty.

    Raises:
        LabelError: If the person may not resolve it, the conflict has changed or was resolved meanwhile, or the
            database cannot be written.
    """
    if not author or clean_name(author) != author:
        raise LabelError(f"{conflict.crop}: {author!r} is not a valid name. Enter your name before you decide.")
    if not may_judge(conflict, author):
        raise LabelError(
            f"{conflict.crop}: {author} has judged this crop, and no one resolves their own conflict. Ask a person who "
            "has not judged it."
        )
    accepted, rejected = (", ".join(one.author for one in side) for side in (conflict.accepted, conflict.rejected))
    said = JudgementResolution(
        author, run, conflict.crop, conflict.slide, verdict, accepted, rejected, conflict.sha256, comment
    )
    runs = {run, *(one.run for one in (*conflict.accepted, *conflict.rejected))}
    with writing(log, _TABLE) as connection:
        done = select_rows(connection, _TABLE, Entry, {"crop": conflict.crop})
        if any(one.judgements == conflict.sha256 and one.run in runs for one in done):
            raise LabelError(f"{conflict.crop}: this conflict has been resolved meanwhile. Reload the page.")
        judged = [one for one in review_log.entries_within(connection, crop=conflict.crop) if one.run in runs]
        if [one.sha256 for one in find_judgement_conflicts(judged)] != [conflict.sha256]:
            raise LabelError(f"{conflict.crop}: the judgements have changed since you opened it. Check them again.")
        insert_row(connection, _TABLE, said)


def read_judgement_resolutions(log: URL, **wanted: str) -> list[Entry]:
    """Read the resolutions with the wanted column values, such as ``run="lbc"``, oldest first.

    Raises:
        LabelError: If the database is damaged or cannot be reached.
    """
    return read_rows(log, _TABLE, Entry, wanted)


def judgement_resolution_csv(entries: Sequence[Entry]) -> str:
    """Write resolutions as CSV for a spreadsheet."""
    return csv_text(text_rows(_TABLE, entries))


def compare_judgements(entries: Iterable[review_log.Entry]) -> list[Pair]:
    """Compare each pair of people on the crops that both judged, by name.

    Returns:
        The pairs; their agreement counts crops instead of pixels, and its classes are accepted and rejected.
    """
    counts: defaultdict[tuple[str, str], dict[str, tuple[int, int]]] = defaultdict(dict)
    for crop, latest in _latest(entries).items():
        for one, two in combinations(sorted(latest, key=lambda entry: entry.author), 2):
            places = VERDICTS.index(one.action), VERDICTS.index(two.action)
            counts[one.author, two.author][crop] = places
    pairs = []
    for people, crops in sorted(counts.items()):
        table = np.zeros((len(VERDICTS), len(VERDICTS)), np.int64)
        for first, second in crops.values():
            table[first, second] += 1
        pairs.append(Pair(*people, tuple(sorted(crops)), agreement(table)))
    return pairs


def _latest(entries: Iterable[review_log.Entry]) -> dict[str, list[review_log.Entry]]:
    """Return each person's latest acceptance or rejection of each crop, by name."""
    found: defaultdict[str, list[review_log.Entry]] = defaultdict(list)
    for entry in entries:
        if entry.action in VERDICTS:
            others = [one for one in found[entry.crop] if not same_person(one.author, entry.author)]
            found[entry.crop] = sorted([*others, entry], key=lambda one: one.author)
    return found
