"""Judgements that differ: found by crop, resolved by a third person only, nothing changed in the log."""

import csv
import sqlite3
from io import StringIO
from pathlib import Path

import pytest

from cytoseg.errors import LabelError
from cytoseg.review.append_only import log_of
from cytoseg.review.judgement_conflicts import (
    JudgementConflict,
    compare_judgements,
    find_judgement_conflicts,
    judgement_resolution_csv,
    may_judge,
    read_judgement_resolutions,
    resolve_judgements,
)
from cytoseg.review.review_log import Action, Judgement, add_entry, read_entries


def _judge(run: Path, crop: str, author: str, action: Action) -> None:
    add_entry(log_of(run, None), Judgement(author, "lbc", crop, "smear_A", action))


def _open(run: Path) -> list[JudgementConflict]:
    log = log_of(run, None)
    return find_judgement_conflicts(read_entries(log), read_judgement_resolutions(log))


@pytest.fixture
def judged(tmp_path: Path) -> JudgementConflict:
    """Anna and Dora accept a crop, Bo rejects it; of another all think the same."""
    for author, action in (("Bo", "accepted"), ("Dora", "accepted"), ("Anna", "accepted"), ("bo", "rejected")):
        _judge(tmp_path, "a", author, action)  # type: ignore[arg-type] # they are actions
    _judge(tmp_path, "a", "Emil", "commented")
    _judge(tmp_path, "b", "Anna", "rejected")
    _judge(tmp_path, "b", "Bo", "rejected")
    (found,) = _open(tmp_path)
    return found


def test_each_persons_latest_judgement_counts(judged: JudgementConflict) -> None:
    assert (judged.crop, judged.slide) == ("a", "smear_A")
    assert [one.author for one in judged.accepted] == ["Anna", "Dora"]
    assert [one.author for one in judged.rejected] == ["bo"]


def test_a_third_person_decides_and_the_judgements_stay(tmp_path: Path, judged: JudgementConflict) -> None:
    log = log_of(tmp_path, None)
    before = read_entries(log)
    resolve_judgements(log, "lbc", judged, author="Cem", verdict="rejected", comment="out of focus")
    assert _open(tmp_path) == []
    assert read_entries(log) == before
    (said,) = read_judgement_resolutions(log)
    assert (said.author, said.verdict, said.accepted_by, said.rejected_by) == ("Cem", "rejected", "Anna, Dora", "bo")
    (row,) = csv.DictReader(StringIO(judgement_resolution_csv([said]).lstrip("\ufeff")))
    assert (row["crop"], row["comment"], row["judgements"]) == ("a", "out of focus", judged.sha256)
    _judge(tmp_path, "a", "Emil", "accepted")  # a new judgement opens it again
    assert [one.people for one in _open(tmp_path)] == [("Anna", "Dora", "Emil", "bo")]


def test_no_one_resolves_their_own_conflict(tmp_path: Path, judged: JudgementConflict) -> None:
    assert [may_judge(judged, name) for name in ("Cem", "DORA", "")] == [True, False, False]
    with pytest.raises(LabelError, match=r"^a: Bo has judged this crop, and no one resolves their own conflict\."):
        resolve_judgements(log_of(tmp_path, None), "lbc", judged, author="Bo", verdict="accepted")
    with pytest.raises(LabelError, match=r"^a: '' is not a valid name\. Enter your name"):
        resolve_judgements(log_of(tmp_path, None), "lbc", judged, author="", verdict="accepted")
    assert read_judgement_resolutions(log_of(tmp_path, None)) == []


def test_what_was_seen_is_what_is_resolved(tmp_path: Path, judged: JudgementConflict) -> None:
    log = log_of(tmp_path, None)
    _judge(tmp_path, "a", "Bo", "accepted")
    with pytest.raises(LabelError, match=r"^a: the judgements have changed since you opened it\."):
        resolve_judgements(log, "lbc", judged, author="Cem", verdict="accepted")
    _judge(tmp_path, "a", "Bo", "rejected")
    (again,) = _open(tmp_path)
    resolve_judgements(log, "lbc", again, author="Cem", verdict="accepted")
    with pytest.raises(LabelError, match=r"^a: this conflict has been resolved meanwhile\."):
        resolve_judgements(log, "lbc", again, author="Emil", verdict="rejected")
    assert [one.author for one in read_judgement_resolutions(log)] == ["Cem"]


@pytest.mark.parametrize(
    "change", ["UPDATE judgement_resolutions SET author = 'x'", "DELETE FROM judgement_resolutions"]
)
def test_a_resolution_cannot_be_changed(tmp_path: Path, judged: JudgementConflict, change: str) -> None:
    resolve_judgements(log_of(tmp_path, None), "lbc", judged, author="Cem", verdict="accepted")
    with (
        sqlite3.connect(tmp_path / "review" / "log.sqlite") as table,
        pytest.raises(sqlite3.IntegrityError, match="cannot be changed or deleted"),
    ):
        table.execute(change)


def test_three_readers_are_compared_in_pairs(tmp_path: Path, judged: JudgementConflict) -> None:
    for author, action in (("Anna", "accepted"), ("bo", "rejected"), ("Dora", "rejected")):
        _judge(tmp_path, "c", author, action)  # type: ignore[arg-type] # they are actions
    pairs = compare_judgements(read_entries(log_of(tmp_path, None)))
    assert [(one.first, one.second, one.crops, one.agreement.same) for one in pairs] == [
        ("Anna", "Bo", ("b",), 1.0),
        ("Anna", "Dora", ("a", "c"), 0.5),
        ("Anna", "bo", ("a", "c"), 0.0),
        ("Dora", "bo", ("a", "c"), 0.5),
    ]
    assert pairs[2].agreement.kappa == 0.0  # each gave all crops one verdict
