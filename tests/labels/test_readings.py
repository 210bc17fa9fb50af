"""Marks of several people on one crop: who saves where, nothing lost, what is refused."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import LabelError
from cytoseg.labels.drawn_marks import Drawn, drawn_of, origin_of, read_marks, save_marks
from cytoseg.labels.readings import (
    crop_locked,
    keep_marks,
    map_sha256,
    marks_at,
    place_of,
    readings_folder,
    readings_of,
    save_reading,
)

CLASSES = ClassList(("glass", "cell"), ((9, 9, 9), (0, 0, 200)), "glass")
SHAPE = (4, 6)


@pytest.fixture
def crop(tmp_path: Path) -> Path:
    """A crop of 6 x 4 pixels of a run, with its sidecar."""
    path = tmp_path / "run" / "to_label" / "smear_A_1_2.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.full((*SHAPE, 3), 100, np.uint8)).save(path)
    path.with_name("smear_A_1_2.crop.json").write_text(json.dumps({"slide": "smear_A", "region": [1, 2, 6, 4]}))
    return path


def _map(column: int, class_id: int = 1) -> NDArray[np.uint8]:
    """One marked column, nothing said of the rest."""
    ids = np.full(SHAPE, IGNORE, np.uint8)
    ids[:, column] = class_id
    return ids


def _save(crop: Path, author: str, column: int, *, known: Drawn | None = None, time: str = "2026-01-01") -> Path:
    return save_reading(crop, author, time, label_map=_map(column), classes=CLASSES, known=known)


def _ids(picture: Path) -> NDArray[np.uint8]:
    return read_marks(picture, SHAPE, CLASSES).ids


def test_the_first_persons_marks_lie_beside_the_crop_and_those_of_others_apart(crop: Path) -> None:
    assert (readings_of(crop), place_of(crop, "Anna"), place_of(crop, "")) == ([], crop, crop)
    assert _save(crop, "Anna", 0) == crop
    theirs = _save(crop, "Bo", 1)
    assert theirs.parent == readings_folder(crop) == crop.parents[1] / "review" / "readings" / "to_label" / crop.stem
    np.testing.assert_array_equal(_ids(crop), _map(0))
    np.testing.assert_array_equal(_ids(theirs), _map(1))
    assert origin_of(theirs) == origin_of(crop)
    assert theirs.read_bytes() == crop.read_bytes()
    assert [(one.drawn.author, one.picture) for one in readings_of(crop)] == [("Anna", crop), ("Bo", theirs)]
    assert (place_of(crop, "Anna"), place_of(crop, "Bo"), place_of(crop, "")) == (crop, theirs, crop)
    np.testing.assert_array_equal(marks_at(readings_of(crop)[1], SHAPE, CLASSES), _map(1))
    problems: list[str] = []
    assert readings_of(crop, problems) == readings_of(crop)
    assert problems == []


def test_the_case_of_a_name_makes_no_second_person(crop: Path) -> None:
    _save(crop, "Anna", 0)
    _save(crop, "Bo", 1)
    assert place_of(crop, "ANNA") == crop
    assert place_of(crop, "bo") == place_of(crop, "Bo")


def test_names_that_a_file_cannot_tell_apart_have_files_of_their_own(crop: Path) -> None:
    _save(crop, "Anna", 0)
    assert _save(crop, "Bo!", 1) != _save(crop, "Bo?", 2)
    assert [one.drawn.author for one in readings_of(crop)] == ["Anna", *sorted(["Bo!", "Bo?"], key=_file_order(crop))]


def _file_order(crop: Path):  # type: ignore[no-untyped-def] # a key for sorted
    return lambda name: place_of(crop, name).name


def test_another_window_of_the_same_person_is_not_written_over(crop: Path) -> None:
    _save(crop, "Anna", 0)
    known = drawn_of(crop)
    _save(crop, "Anna", 1, known=known, time="2026-01-02")
    with pytest.raises(LabelError, match="Anna has saved other marks since you opened it, and yours are not saved"):
        _save(crop, "Anna", 2, known=known)
    np.testing.assert_array_equal(_ids(crop), _map(1))


def test_two_people_who_begin_at_once_lose_nothing(crop: Path) -> None:
    begun = threading.Barrier(4)

    def save(number: int) -> None:
        begun.wait()
        _save(crop, f"person {number}", number)

    people = [threading.Thread(target=save, args=(number,)) for number in range(4)]
    for thread in people:
        thread.start()
    for thread in people:
        thread.join()
    found = {one.drawn.author: int(np.flatnonzero((_ids(one.picture) == 1)[0])[0]) for one in readings_of(crop)}
    assert found == {f"person {number}": number for number in range(4)}


def test_a_resolution_is_no_reading_and_what_it_replaces_is_kept(crop: Path) -> None:
    _save(crop, "Anna", 0)
    _save(crop, "Bo", 1)
    keep_marks(crop)
    save_marks(crop, Drawn("Cem", "2026-02-01", ("Anna", "Bo")), _map(2), CLASSES)
    assert drawn_of(crop) == Drawn("Cem", "2026-02-01", ("Anna", "Bo"))
    assert sorted(one.drawn.author for one in readings_of(crop)) == ["Anna", "Bo"]
    np.testing.assert_array_equal(_ids(place_of(crop, "Anna")), _map(0))
    _save(crop, "Cem", 3, known=drawn_of(crop), time="2026-02-02")  # goes on drawing the resolution
    assert drawn_of(crop) == Drawn("Cem", "2026-02-02", ("Anna", "Bo"))
    keep_marks(crop)
    kept = [drawn_of(path) for path in readings_folder(crop).glob("Cem*.png")]
    assert kept == [Drawn("Cem", "2026-02-02", ("Anna", "Bo"))]
    assert sorted(one.drawn.author for one in readings_of(crop)) == ["Anna", "Bo"]


def test_nothing_is_kept_where_nothing_is_marked_and_nothing_is_written_over(crop: Path) -> None:
    keep_marks(crop)
    assert not readings_folder(crop).exists()
    for column, time in enumerate(("2026-01-01", "2026-01-02")):
        save_marks(crop, Drawn("Anna", time), _map(column), CLASSES)
        keep_marks(crop)
    assert sorted(drawn.time for path in readings_folder(crop).glob("*.png") if (drawn := drawn_of(path))) == [
        "2026-01-01",
        "2026-01-02",
    ]


def test_what_cannot_be_read_is_said(crop: Path) -> None:
    _save(crop, "Anna", 0)
    _save(crop, "Bo", 1).with_suffix(".json").write_text("[1,")
    problems: list[str] = []
    assert [one.drawn.author for one in readings_of(crop, problems)] == ["Anna"]
    assert len(problems) == 1
    assert problems[0].endswith("the marks of 'smear_A_1_2' cannot be read. Fix the file or remove it.")


def test_a_hash_knows_ids_and_shape() -> None:
    assert map_sha256(_map(0)) == map_sha256(_map(0).copy())
    assert len({map_sha256(one) for one in (_map(0), _map(1), _map(0).reshape(6, 4))}) == 3


def test_a_full_disk_leaves_everything_as_it_was(crop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(crop, "Anna", 0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("cytoseg.labels.readings.write_atomically", full)
        with pytest.raises(LabelError, match=r"cannot be written \(No space left on device\); nothing was saved"):
            _save(crop, "Bo", 1)
        with pytest.raises(LabelError, match="nothing was saved"):
            keep_marks(crop)
    _save(crop, "Bo", 1)
    with monkeypatch.context() as patched:
        patched.setattr("cytoseg.labels.readings.write_atomically", full)
        patched.setattr("cytoseg.labels.readings._copy_picture", lambda *_: None)
        with pytest.raises(LabelError, match="nothing was saved"):
            keep_marks(crop)
    with pytest.raises(LabelError, match="nothing was saved"), crop_locked(crop):
        raise OSError(28, "No space left on device")
    np.testing.assert_array_equal(_ids(crop), _map(0))
