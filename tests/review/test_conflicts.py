"""Conflicts: found by pairs, sorted, resolved by a third person only, recorded, nothing lost."""

import csv
import json
import sqlite3
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import LabelError
from cytoseg.labels.drawn_marks import Drawn, drawn_of, read_marks
from cytoseg.labels.readings import place_of, save_reading
from cytoseg.review.append_only import log_of
from cytoseg.review.conflicts import Conflict, compare_people, differing, may_resolve
from cytoseg.review.resolutions import Decision, read_resolutions, resolution_csv, resolve, resolved_pairs

CLASSES = ClassList(("glass", "cell"), ((9, 9, 9), (0, 0, 200)), "glass")


def _crop(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "to_label" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((1, 4, 3), 100, np.uint8)).save(path)
    path.with_name(f"{name}.crop.json").write_text(json.dumps({"slide": "smear_A", "region": [1, 2, 4, 1]}))
    return path


def _mark(crop: Path, author: str, ids: list[int]) -> Path:
    known = drawn_of(place_of(crop, author))
    label_map = np.array([ids], np.uint8)
    return save_reading(crop, author, f"2026 {ids}", label_map=label_map, classes=CLASSES, known=known)


@pytest.fixture
def disputed(tmp_path: Path) -> Path:
    """Anna and Bo differ in one of the two pixels that both marked."""
    crop = _crop(tmp_path, "a")
    _mark(crop, "Anna", [0, 0, IGNORE, 1])
    _mark(crop, "Bo", [0, 1, 1, IGNORE])
    return crop


def _open(tmp_path: Path, *crops: Path) -> list[Conflict]:
    found = compare_people(crops, CLASSES, resolved_pairs(read_resolutions(log_of(tmp_path, None))))
    assert found.problems == []
    return found.conflicts


def _decide(tmp_path: Path, conflict: Conflict, author: str, choice: str) -> None:
    resolve(log_of(tmp_path, None), "lbc", conflict, Decision(author, choice, "why"), CLASSES)  # type: ignore[arg-type] # some are wrong


def _ids(crop: Path) -> list[int]:
    return [int(number) for number in read_marks(crop, (1, 4), CLASSES).ids[0]]


def test_conflicts_are_pairs_that_differ_where_both_marked(tmp_path: Path, disputed: Path) -> None:
    (one,) = _open(tmp_path, disputed)
    assert (one.crop, one.slide, [side.person for side in one.sides]) == ("a", "smear_A", ["Anna", "Bo"])
    assert (one.agreement.pixels, one.agreement.same, one.disagreement) == (2, 0.5, 0.5)
    assert differing(one).tolist() == [[False, True, False, False]]
    same, apart, alone, worse = (_crop(tmp_path, name) for name in ("same", "apart", "alone", "worse"))
    for crop, first, second in (
        (same, [0, 1, 1, 1], [0, 1, 1, IGNORE]),
        (apart, [0, 0, IGNORE, IGNORE], [IGNORE, IGNORE, 1, 1]),
        (worse, [0, 0, 0, 0], [1, 1, 1, 0]),
    ):
        _mark(crop, "Anna", first)
        _mark(crop, "Bo", second)
    _mark(alone, "Anna", [0, 0, 0, 0])
    assert [one.crop for one in _open(tmp_path, disputed, same, apart, alone, worse)] == ["worse", "a"]


def test_each_two_of_three_readers_are_compared(tmp_path: Path, disputed: Path) -> None:
    _mark(disputed, "Dora", [0, 1, 0, 1])
    other = _crop(tmp_path, "b")
    _mark(other, "Anna", [1, 1, 1, 1])
    _mark(other, "Dora", [1, 1, 1, 0])
    pairs = compare_people([disputed, other], CLASSES, ()).pairs
    assert [(one.first, one.second, one.crops, one.agreement.pixels, one.agreement.same) for one in pairs] == [
        ("Anna", "Bo", ("a",), 2, 1 / 2),
        ("Anna", "Dora", ("a", "b"), 7, 5 / 7),
        ("Bo", "Dora", ("a",), 3, 2 / 3),
    ]
    assert [(one.crop, *(side.person for side in one.sides)) for one in _open(tmp_path, disputed, other)] == [
        ("a", "Anna", "Bo"),
        ("a", "Anna", "Dora"),
        ("a", "Bo", "Dora"),
        ("b", "Anna", "Dora"),
    ]


def test_only_a_third_person_may_resolve(tmp_path: Path, disputed: Path) -> None:
    (one,) = _open(tmp_path, disputed)
    assert [may_resolve(one, name) for name in ("Anna", "bo", "", "Cem")] == [False, False, False, True]
    for name in ("Anna", "BO"):
        with pytest.raises(LabelError, match=f"{name} has marked this crop, and no one resolves their own"):
            _decide(tmp_path, one, name, "first")
    with pytest.raises(LabelError, match="'' is not a valid name"):
        _decide(tmp_path, one, "", "first")
    _mark(disputed, "Cem", [0, 0, 0, 0])  # has an opinion of his own now, whatever his page still shows
    with pytest.raises(LabelError, match="Cem has marked this crop"):
        _decide(tmp_path, one, "Cem", "first")
    assert drawn_of(disputed) == Drawn("Anna", "2026 [0, 0, 255, 1]")
    assert read_resolutions(log_of(tmp_path, None)) == []


@pytest.mark.parametrize(
    ("choice", "ids"),
    [
        ("first", [0, 0, IGNORE, 1]),
        ("second", [0, 1, 1, IGNORE]),
        ("drawn from first", [0, 0, IGNORE, 1]),
        ("drawn from second", [0, 1, 1, IGNORE]),
    ],
)
def test_a_resolution_becomes_the_label_and_is_recorded(
    tmp_path: Path, disputed: Path, choice: str, ids: list[int]
) -> None:
    (one,) = _open(tmp_path, disputed)
    _decide(tmp_path, one, "Cem", choice)
    drawn = drawn_of(disputed)
    assert drawn is not None
    assert (drawn.author, drawn.resolves) == ("Cem", ("Anna", "Bo"))
    assert _ids(disputed) == ids
    assert _ids(place_of(disputed, "Anna")) == [0, 0, IGNORE, 1]
    assert _ids(place_of(disputed, "Bo")) == [0, 1, 1, IGNORE]
    assert _open(tmp_path, disputed) == []
    (row,) = csv.DictReader(StringIO(resolution_csv(read_resolutions(log_of(tmp_path, None), run="lbc"))))
    assert (row["author"], row["choice"], row["first"], row["second"]) == ("Cem", choice, "Anna", "Bo")
    assert (row["crop"], row["slide"], row["comment"]) == ("a", "smear_A", "why")
    assert [row["first_sha256"], row["second_sha256"]] == [side.sha256 for side in one.sides]


def test_new_marks_open_a_conflict_again_and_do_not_touch_the_label(tmp_path: Path, disputed: Path) -> None:
    _decide(tmp_path, _open(tmp_path, disputed)[0], "Cem", "second")
    _mark(disputed, "Anna", [1, 0, IGNORE, 1])
    (one,) = _open(tmp_path, disputed)
    assert one.disagreement == 1
    assert _ids(disputed) == [0, 1, 1, IGNORE]
    _decide(tmp_path, one, "Dora", "first")
    assert _ids(disputed) == [1, 0, IGNORE, 1]
    assert _open(tmp_path, disputed) == []


def test_what_was_seen_is_what_is_resolved(tmp_path: Path, disputed: Path) -> None:
    (one,) = _open(tmp_path, disputed)
    _mark(disputed, "Bo", [1, 1, 1, 1])
    with pytest.raises(LabelError, match="the marks have changed since you opened it"):
        _decide(tmp_path, one, "Cem", "first")
    (one,) = _open(tmp_path, disputed)
    _decide(tmp_path, one, "Cem", "first")
    with pytest.raises(LabelError, match="this conflict has been resolved meanwhile"):
        _decide(tmp_path, one, "Dora", "second")
    assert _ids(disputed) == [0, 0, IGNORE, 1]


def test_what_cannot_be_written_is_not_recorded(
    tmp_path: Path, disputed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise LabelError("a.json: cannot be written")

    (one,) = _open(tmp_path, disputed)
    with monkeypatch.context() as patched:
        patched.setattr("cytoseg.review.resolutions.save_marks", full)
        with pytest.raises(LabelError, match="cannot be written"):
            _decide(tmp_path, one, "Cem", "first")
    assert read_resolutions(log_of(tmp_path, None)) == []
    assert len(_open(tmp_path, disputed)) == 1
    (tmp_path / "review" / "log.sqlite").write_bytes(b"no table" * 500)
    with pytest.raises(LabelError, match="is damaged"):
        _decide(tmp_path, one, "Cem", "first")
    assert drawn_of(disputed) == Drawn("Anna", "2026 [0, 0, 255, 1]")


@pytest.mark.parametrize(
    "change", ["UPDATE conflict_resolutions SET author = 'Bo'", "DELETE FROM conflict_resolutions"]
)
def test_a_resolution_cannot_be_changed(tmp_path: Path, disputed: Path, change: str) -> None:
    _decide(tmp_path, _open(tmp_path, disputed)[0], "Cem", "first")
    connection = sqlite3.connect(tmp_path / "review" / "log.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="cannot be changed"):
        connection.execute(change)
    connection.close()


def test_what_cannot_be_read_is_left_out_and_said(tmp_path: Path, disputed: Path) -> None:
    _mark(disputed, "Cem", [1, 1, 1, 1])
    path = place_of(disputed, "Cem").with_suffix(".json")
    path.write_text(path.read_text().replace('"imageWidth": 4', '"imageWidth": 5'))
    found = compare_people([disputed], CLASSES, ())
    assert [[side.person for side in one.sides] for one in found.conflicts] == [["Anna", "Bo"]]
    assert [(one.first, one.second) for one in found.pairs] == [("Anna", "Bo")]
    assert found.conflicts[0].readers == ("Anna", "Bo", "Cem")
    assert len(found.problems) == 1
    disputed.write_bytes(b"")
    found = compare_people([disputed], CLASSES, ())
    assert (found.conflicts, found.pairs) == ([], [])
    assert found.problems[-1].startswith("a.png")
