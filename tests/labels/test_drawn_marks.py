"""Marks drawn on a crop: saved, read back, imported, and refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import LabelError
from cytoseg.labels.drawn_marks import Drawn, drawn_of, origin_of, read_marks, save_marks
from cytoseg.labels.import_labels import import_labels
from cytoseg.labels.import_settings import ImportRules
from cytoseg.labels.proposal_file import proposal, sealed

CLASSES = ClassList(("glass", "cell", "nucleus"), ((9, 9, 9), (0, 0, 200), (200, 0, 0)), "glass")
ANNA = Drawn("Anna Øster", "2026-01-02T03:04:05.000006+00:00")


@pytest.fixture
def crop(tmp_path: Path) -> Path:
    """A crop of 12 x 8 pixels with its sidecar."""
    path = tmp_path / "to_label" / "smear_A_10_20.png"
    path.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)).save(path)
    sidecar = {"slide": "smear_A", "region": [10, 20, 12, 8], "mpp": 0.5}
    path.with_name("smear_A_10_20.crop.json").write_text(json.dumps(sidecar))
    return path


@pytest.fixture
def strokes() -> NDArray[np.uint8]:
    """Glass, cell and nucleus in a few places, nothing said of the rest."""
    ids = np.full((8, 12), IGNORE, np.uint8)
    ids[0, :4], ids[2:6, 2:9], ids[3:5, 4:6] = 0, 1, 2
    ids[7, 11] = 1
    return ids


def test_what_is_saved_is_what_is_read_and_what_is_imported(
    crop: Path, strokes: NDArray[np.uint8], tmp_path: Path
) -> None:
    saved = save_marks(crop, ANNA, strokes, CLASSES)
    marks = read_marks(crop, (8, 12), CLASSES)
    np.testing.assert_array_equal(marks.ids, strokes)
    assert (marks.proposed, marks.drawn, drawn_of(crop)) == (None, ANNA, ANNA)
    report = import_labels(saved, tmp_path / "labels", classes=CLASSES, rules=ImportRules())
    (imported,) = report.crops
    assert (imported.crop, imported.slide, imported.from_prediction) == ("smear_A_10_20", "smear_A", False)
    np.testing.assert_array_equal(imported.label_map(), strokes)
    content = json.loads(saved.read_text())["cytoseg"]
    assert content["annotation"] == {"author": ANNA.author, "time": ANNA.time}


def test_nothing_marked_is_nothing_said(crop: Path) -> None:
    nothing = np.full((8, 12), IGNORE, np.uint8)
    np.testing.assert_array_equal(read_marks(crop, (8, 12), CLASSES).ids, nothing)
    assert drawn_of(crop) is None
    save_marks(crop, ANNA, nothing, CLASSES)
    np.testing.assert_array_equal(read_marks(crop, (8, 12), CLASSES).ids, nothing)


def test_a_proposal_is_no_mark_until_it_is_saved_and_stays_known(
    crop: Path, strokes: NDArray[np.uint8], tmp_path: Path
) -> None:
    guess = np.zeros((8, 12), np.uint8)
    guess[1:7, 1:8] = 1
    crop.with_suffix(".json").write_text(sealed(proposal(guess, CLASSES, picture=crop.name)))
    marks = read_marks(crop, (8, 12), CLASSES)
    assert (set(marks.ids.ravel()), marks.drawn, drawn_of(crop)) == ({IGNORE}, None, None)
    assert marks.proposed is not None
    np.testing.assert_array_equal(marks.proposed == 1, guess == 1)
    assert set(marks.proposed.ravel()) == {1, IGNORE}
    for _ in range(2):
        saved = save_marks(crop, ANNA, strokes, CLASSES)
        np.testing.assert_array_equal(read_marks(crop, (8, 12), CLASSES).ids, strokes)
    report = import_labels(saved, tmp_path / "labels", classes=CLASSES, rules=ImportRules())
    assert report.crops[0].from_prediction


def test_a_file_of_labelme_opens_with_the_fill_where_nothing_is_marked(crop: Path) -> None:
    cell = np.zeros((8, 12), np.uint8)
    cell[2:6, 2:6] = 1
    crop.with_suffix(".json").write_text(json.dumps(proposal(cell, CLASSES, picture=crop.name)))
    marks = read_marks(crop, (8, 12), CLASSES)
    np.testing.assert_array_equal(marks.ids, cell)
    assert marks.drawn == Drawn("", "")


def test_damaged_or_unowned_content_is_refused(crop: Path, strokes: NDArray[np.uint8]) -> None:
    with pytest.raises(LabelError, match="'' is not a valid name"):
        save_marks(crop, Drawn("", ANNA.time), strokes, CLASSES)
    strange = strokes.copy()
    strange[0, 0] = 7
    with pytest.raises(LabelError, match="holds id 7, but there are 3 classes"):
        save_marks(crop, ANNA, strange, CLASSES)
    save_marks(crop, ANNA, strokes[:4], CLASSES)
    with pytest.raises(LabelError, match="the file says 12x4 pixels"):
        read_marks(crop, (8, 12), CLASSES)
    crop.with_suffix(".json").write_text("[1, 2")
    assert drawn_of(crop) is None
    with pytest.raises(LabelError, match="is cut off or damaged"):
        read_marks(crop, (8, 12), CLASSES)
    crop.with_name("smear_A_10_20.crop.json").unlink()
    with pytest.raises(LabelError, match="its slide is unknown"):
        origin_of(crop)


def test_a_full_disk_leaves_what_was_saved(
    crop: Path, strokes: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = save_marks(crop, ANNA, strokes, CLASSES)
    before = saved.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cytoseg.labels.drawn_marks.write_atomically", full)
    with pytest.raises(LabelError, match=r"cannot be written \(No space left"):
        save_marks(crop, ANNA, strokes, CLASSES)
    assert saved.read_bytes() == before
