import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.labels.import_labels import ImportReport, import_labels
from cytoseg.labels.import_settings import ImportRules
from cytoseg.labels.index import load_index

Write = Callable[..., Path]
IDS = [[0, 1, 1, 2], [0, 0, 300, 300]]
"""Three objects that touch each other; one id needs more than 8 bits."""


def _write(folder: Path, write_picture: Write, ids: Any, *, named: str = "instances", suffix: str = ".png") -> Path:
    values = np.asarray(ids)
    write_picture(folder / "images" / "a.png", width=values.shape[1], height=values.shape[0])
    (folder / named).mkdir(exist_ok=True)
    path = folder / named / f"a{suffix}"
    if suffix == ".png":
        Image.fromarray(values).save(path)
    else:
        tifffile.imwrite(path, values)
    return path


def _imported(source: Path, classes: ClassList, **rules: Any) -> tuple[ImportReport, list[list[int]]]:
    folder = source.parent / "labels"
    report = import_labels(source, folder, classes=classes, rules=ImportRules(**{"instances": "nucleus"} | rules))
    return report, load_index(folder).crops[0].label_map().tolist()


@pytest.mark.parametrize(("kind", "suffix"), [(np.uint16, ".png"), (np.uint16, ".tif"), (np.int32, ".tif")])
@pytest.mark.parametrize("named", ["instances", "masks"])
def test_every_object_is_of_the_class_and_the_rest_is_filled(
    kind: type, suffix: str, named: str, tmp_path: Path, write_picture: Write, classes: ClassList
) -> None:
    _write(tmp_path / "set", write_picture, np.array(IDS, kind), named=named, suffix=suffix)
    report, label_map = _imported(tmp_path / "set", classes)
    assert label_map == [[0, 2, 2, 2], [0, 0, 2, 2]]  # no border where objects touch
    assert any(note.startswith("Objects in instance maps: 3.") for note in report.notes)


def test_id_255_of_8_bits_is_an_object_too(tmp_path: Path, write_picture: Write, classes: ClassList) -> None:
    _write(tmp_path / "set", write_picture, np.array([[0, 255, 7]], np.uint8))
    assert _imported(tmp_path / "set", classes)[1] == [[0, 2, 2]]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"ignore": ("0",)}, [[255, 2]]),
        ({"class_map": {"0": "cell"}}, [[1, 2]]),
        ({"instances": "background", "ignore": ("0",)}, [[255, 0]]),
        ({"instances": "__ignore__"}, [[0, 255]]),
    ],
)
def test_what_objects_and_the_rest_become_is_reported(
    rules: dict[str, Any], expected: list[list[int]], tmp_path: Path, write_picture: Write, classes: ClassList
) -> None:
    _write(tmp_path / "set", write_picture, np.array([[0, 9]], np.uint8))
    report, label_map = _imported(tmp_path / "set", classes, **rules)
    assert label_map == expected
    assert not any("no label has this name" in note for note in report.notes)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([[0.0, 1.5]], np.float32), "instances/a.tif: holds float32 values with fractions, not class ids"),
        (np.array([[[0, 1, 2], [3, 4, 5]]], np.uint8), "instances/a.tif: holds 1x2x3 uint8, not one channel"),
        (np.array([[0, -1]], np.int32), "instances/a.tif: holds the negative id -1. Objects have ids from 1"),
    ],
)
def test_maps_that_hold_no_ids_are_refused(
    ids: Any, message: str, tmp_path: Path, write_picture: Write, classes: ClassList
) -> None:
    _write(tmp_path / "set", write_picture, ids, suffix=".tif")
    with pytest.raises(LabelError, match=re.escape(message)):
        _imported(tmp_path / "set", classes)
    assert not (tmp_path / "labels").exists()


def test_another_size_is_refused(tmp_path: Path, write_picture: Write, classes: ClassList) -> None:
    _write(tmp_path / "set", write_picture, np.array([[0, 1]], np.uint8))
    write_picture(tmp_path / "set" / "images" / "a.png", width=3, height=4)
    with pytest.raises(LabelError, match=r"instances/a.png: the map is 2x1, but the image 3x4\."):
        _imported(tmp_path / "set", classes)


def test_a_missing_picture_or_map_is_reported(tmp_path: Path, write_picture: Write, classes: ClassList) -> None:
    _write(tmp_path / "set", write_picture, np.array([[0, 1]], np.uint8))
    write_picture(tmp_path / "set" / "images" / "b.png")
    with pytest.raises(LabelError, match=r"images/b.png: has no mask in instances\."):
        _imported(tmp_path / "set", classes)
    (tmp_path / "set" / "images" / "a.png").rename(tmp_path / "set" / "images" / "c.png")
    with pytest.raises(LabelError, match=r"instances/a.png: has no image in images/\."):
        _imported(tmp_path / "set", classes)


def test_nothing_to_read_is_reported(tmp_path: Path, write_picture: Write, classes: ClassList) -> None:
    write_picture(tmp_path / "set" / "images" / "a.png")
    for source in (tmp_path / "set", tmp_path / "set" / "images" / "a.png"):
        with pytest.raises(LabelError, match=r"holds no images/ beside instances/ \(or masks/\)"):
            _imported(source, classes)
    path = _write(tmp_path / "set", write_picture, np.array([[0, 1]], np.uint8))
    path.unlink()
    (tmp_path / "set" / "images" / "a.png").unlink()
    with pytest.raises(LabelError, match=r"its instances/ and images/ are empty"):
        _imported(tmp_path / "set", classes)
