"""Assignments of crops: given, withdrawn, taken by one of two, and ordered for a person."""

import threading
from pathlib import Path

import pytest

from cytoseg.errors import LabelError
from cytoseg.review.append_only import log_of
from cytoseg.review.assignments import Assignment, assign, assignees, in_order, read_assignments, take


def _assigned(tmp_path: Path) -> dict[str, tuple[str, ...]]:
    return assignees(read_assignments(log_of(tmp_path, None)))


def test_the_latest_word_on_crop_and_person_counts(tmp_path: Path) -> None:
    log = log_of(tmp_path, None)
    assert _assigned(tmp_path) == {}
    for said in (
        Assignment("Cem", "lbc", "a", "Anna"),
        Assignment("Cem", "lbc", "a", "Bo"),
        Assignment("Cem", "lbc", "b", "Bo"),
        Assignment("Cem", "lbc", "a", "anna", "withdrawn"),
        Assignment("Cem", "lbc", "b", "Bo", "withdrawn"),
    ):
        assign(log, said)
    assert _assigned(tmp_path) == {"a": ("Bo",)}
    first = read_assignments(log, crop="a")[0]
    assert (first.author, first.person, first.state, len(first.time)) == ("Cem", "Anna", "assigned", 32)
    assert read_assignments(log, run="other") == []


def test_of_two_who_take_a_crop_at_once_one_gets_it(tmp_path: Path) -> None:
    log, begun = log_of(tmp_path, None), threading.Barrier(2)
    refused: list[str] = []

    def taken_by(name: str) -> None:
        begun.wait()
        try:
            take(log, Assignment(name, "lbc", "a", name))
        except LabelError as error:
            refused.append(str(error))

    people = [threading.Thread(target=taken_by, args=(name,)) for name in ("Anna", "Bo")]
    for thread in people:
        thread.start()
    for thread in people:
        thread.join()
    ((winner,),) = _assigned(tmp_path).values()
    assert refused == [f"a: is assigned to {winner}. Take another crop, or ask for it."]


def test_taking_twice_is_taking_once(tmp_path: Path) -> None:
    log = log_of(tmp_path, None)
    for name in ("Anna", "anna"):
        take(log, Assignment(name, "lbc", "a", name))
    (found,) = read_assignments(log)
    assert (found.author, found.run, found.crop, found.person, found.state) == ("Anna", "lbc", "a", "Anna", "assigned")


@pytest.mark.parametrize("name", ["", "two\nlines"])
def test_a_name_is_needed(tmp_path: Path, name: str) -> None:
    for said in (Assignment(name, "lbc", "a", "Anna"), Assignment("Anna", "lbc", "a", name)):
        for act in (assign, take):
            with pytest.raises(LabelError, match="is not a valid name"):
                act(log_of(tmp_path, None), said)


def test_those_of_a_person_come_first_and_those_of_others_last() -> None:
    assigned = {"b": ("Bo",), "c": ("Anna",), "d": ("Bo", "anna")}
    assert in_order(["a", "b", "c", "d", "e"], assigned, "Anna") == ["c", "d", "a", "e", "b"]
    assert in_order(["a", "b"], assigned, "") == ["a", "b"]
