"""Test crops corrected differently: found by pairs, resolved by a third person only, nothing lost."""

from pathlib import Path

import numpy as np
import pytest

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.formats.sidecar import Origin
from cytoseg.labels.corrections import SavedCorrection, corrections_folder, find_corrections, read_correction
from cytoseg.review.append_only import log_of
from cytoseg.review.conflicts import Conflict
from cytoseg.review.correction_conflicts import find_correction_conflicts, resolve_correction
from cytoseg.review.inter_rater import compare_corrections
from cytoseg.review.resolutions import Decision, read_resolutions, resolved_pairs
from tests.review.test_inter_rater import correct

SLIDES = {"a": "s", "b": "s"}


def _open(run: Path, classes: ClassList) -> list[Conflict]:
    done = resolved_pairs(read_resolutions(log_of(run, None)))
    found, problems = find_correction_conflicts(corrections_folder(run), SLIDES, classes, done)
    assert problems == []
    return found


def _resolve(run: Path, conflict: Conflict, author: str, choice: str, classes: ClassList) -> SavedCorrection:
    decision = Decision(author, choice, "why")  # type: ignore[arg-type] # a choice
    return resolve_correction(log_of(run, None), "lbc", conflict, decision, classes=classes, origin=Origin("s", None))


@pytest.fixture
def disputed(tmp_path: Path, classes: ClassList) -> Path:
    """Anna and Ben differ in half of crop a, and Cem differs from both in a quarter and three; b is not disputed."""
    folder = corrections_folder(tmp_path)
    correct(folder, classes, "a", "Ben", [2, 2, 2, 2])
    correct(folder, classes, "a", "Ben", [0, 0, 1, 1], day=2)
    correct(folder, classes, "a", "Anna", [0, 0, 0, 0], day=2)
    correct(folder, classes, "a", "Cem", [0, 0, 0, 1], day=3)
    correct(folder, classes, "b", "Anna", [0, 255])
    correct(folder, classes, "b", "Ben", [0, 1])
    return tmp_path


def test_each_two_of_three_readers_are_compared(disputed: Path, classes: ClassList) -> None:
    found = _open(disputed, classes)
    assert [(one.crop, *(side.person for side in one.sides), one.disagreement) for one in found] == [
        ("a", "Anna", "Ben", 0.5),
        ("a", "Anna", "Cem", 0.25),
        ("a", "Ben", "Cem", 0.25),
    ]
    assert {one.readers for one in found} == {("Anna", "Ben", "Cem")}
    assert {one.slide for one in found} == {"s"}


def test_a_resolution_is_the_newest_correction_and_no_other_is_touched(disputed: Path, classes: ClassList) -> None:
    folder = corrections_folder(disputed)
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    first = _open(disputed, classes)[0]
    saved = _resolve(disputed, first, "Dora", "second", classes)
    found, _ = find_corrections(folder, "a")
    assert found[-1] == saved
    assert (saved.correction.author, saved.correction.started_from) == ("Dora", "resolution of a prediction")
    np.testing.assert_array_equal(read_correction(saved.path, classes), [[0, 0, 1, 1]])
    assert {path: path.read_bytes() for path in before} == before
    (said,) = read_resolutions(log_of(disputed, None))
    assert (said.author, said.crop, said.choice, said.first, said.second) == ("Dora", "a", "second", "Anna", "Ben")
    # A resolution is not a reading of one's own: it makes no conflict and no agreement.
    assert [[side.person for side in one.sides] for one in _open(disputed, classes)] == [
        ["Anna", "Cem"],
        ["Ben", "Cem"],
    ]
    pairs, _ = compare_corrections(folder, classes, crop="a")
    assert {name for pair in pairs for name in (pair.first, pair.second)} == {"Anna", "Ben", "Cem"}
    correct(folder, classes, "a", "Anna", [1, 1, 1, 1], day=4)  # she has thought again
    assert ("Anna", "Ben") in [tuple(side.person for side in one.sides) for one in _open(disputed, classes)]


def test_only_a_third_person_resolves_what_was_seen(disputed: Path, classes: ClassList) -> None:
    first = _open(disputed, classes)[0]
    for author in ("anna", "Cem"):
        with pytest.raises(LabelError, match=rf"^a: {author} has marked this crop, and no one resolves their own"):
            _resolve(disputed, first, author, "first", classes)
    with pytest.raises(LabelError, match=r"^a: '' is not a valid name"):
        _resolve(disputed, first, "", "first", classes)
    correct(corrections_folder(disputed), classes, "a", "Ben", [0, 1, 1, 1], day=4)
    with pytest.raises(LabelError, match=r"^a: the marks have changed since you opened it\."):
        _resolve(disputed, first, "Dora", "first", classes)
    again = _open(disputed, classes)[0]
    _resolve(disputed, again, "Dora", "first", classes)
    with pytest.raises(LabelError, match=r"^a: this conflict has been resolved meanwhile\."):
        _resolve(disputed, again, "Emil", "first", classes)
    assert len(read_resolutions(log_of(disputed, None))) == 1


def test_a_name_spelled_otherwise_meanwhile_is_the_same_person(disputed: Path, classes: ClassList) -> None:
    first = _open(disputed, classes)[0]
    correct(corrections_folder(disputed), classes, "a", "ANNA", [0, 0, 0, 0], day=4)
    saved = _resolve(disputed, first, "Dora", "first", classes)
    np.testing.assert_array_equal(read_correction(saved.path, classes), [[0, 0, 0, 0]])


def test_what_cannot_be_saved_is_not_recorded(
    disputed: Path, classes: ClassList, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    first = _open(disputed, classes)[0]
    monkeypatch.setattr("cytoseg.labels.corrections.write_atomically", full)
    with pytest.raises(LabelError, match="No space left on device"):
        _resolve(disputed, first, "Dora", "first", classes)
    assert read_resolutions(log_of(disputed, None)) == []
    assert len(_open(disputed, classes)) == 3


def test_what_cannot_be_read_is_left_out_and_said(disputed: Path, classes: ClassList) -> None:
    correct(corrections_folder(disputed), classes, "a", "Ben", [0, 1, 1], day=5)  # of another size
    correct(corrections_folder(disputed), classes, "a", "Anna", [1, 1, 1, 1], day=5).with_suffix(".png").unlink()
    found, problems = find_correction_conflicts(corrections_folder(disputed), SLIDES, classes, ())
    assert found == []
    assert len(problems) == 1
    assert "Anna_20260305T000000Z" in problems[0]
    assert find_correction_conflicts(disputed / "missing", SLIDES, classes, ()) == ([], [])
