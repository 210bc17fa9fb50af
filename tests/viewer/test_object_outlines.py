"""Outlines of the objects in view: which they are, how fine, and damage."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytoseg.classes import ClassList
from cytoseg.errors import SlideError
from cytoseg.geometry import Region
from cytoseg.objects.geojson import ObjectFile, Outlined
from cytoseg.viewer import object_outlines
from cytoseg.viewer.object_outlines import ObjectPlaces, outlines_in

CLASSES = ClassList(("glass", "cell", "nucleus"), ((240, 240, 240), (0, 114, 178), (213, 94, 0)), "glass")
WHOLE = Region(0, 0, 1000, 1000)
RING = np.ones((3, 3), np.bool_)
RING[1, 1] = False
PLACES = ObjectPlaces(
    np.array([1, 2, 3]),
    ["cell", "nucleus", "cell"],
    np.array([20.0, 103.0, 501.0]),
    np.array([10.0, 53.0, 601.0]),
    np.array([30.0, 6.0, 4.0]),
)
"""A cell of 40 x 20 px at (0, 0), a ring of 6 px at (100, 50), a cell of 2 px at (500, 600)."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "objects.geojson"
    with ObjectFile(found, slide="a.tif", classes=CLASSES, downsample=2) as file:
        file.add(Outlined(1, 1, 0, 0, np.ones((10, 20), np.bool_), {}))
        file.add(Outlined(2, 2, 50, 25, RING, {}))
        file.add(Outlined(3, 1, 250, 300, np.ones((1, 1), np.bool_), {}))
    return found


def _ids(found: dict[str, Any]) -> tuple[list[int], list[int]]:
    return [one["id"] for one in found["objects"]], [one["id"] for one in found["dots"]]


def test_all_objects_of_a_region_come_with_their_rings(path: Path) -> None:
    found = outlines_in(path, PLACES, WHOLE, pixel=0.5)
    assert (_ids(found), found["total"]) == (([1, 2, 3], []), 3)
    cell, ring, _ = found["objects"]
    assert (cell["class"], ring["class"]) == ("cell", "nucleus")
    assert {tuple(point) for point in np.reshape(cell["rings"][0], (-1, 2)).tolist()} == {
        (0, 0),
        (40, 0),
        (40, 20),
        (0, 20),
    }
    outer, hole = (np.reshape(one, (-1, 2)) for one in ring["rings"])
    assert (outer.min(axis=0).tolist(), outer.max(axis=0).tolist()) == ([100, 50], [106, 56])
    assert (hole.min(axis=0).tolist(), hole.max(axis=0).tolist()) == ([102, 52], [104, 54])


@pytest.mark.parametrize(
    ("region", "ids"),
    [
        (Region(90, 40, 30, 30), [2]),
        (Region(200, 200, 100, 100), []),
        (Region(45, 0, 10, 10), [1]),  # within its reach of 30 from x 20
        (Region(51, 0, 10, 10), []),
        (Region(-50, -50, 2000, 2000), [1, 2, 3]),
    ],
)
def test_only_objects_that_may_reach_into_the_region_come(path: Path, region: Region, ids: list[int]) -> None:
    assert _ids(outlines_in(path, PLACES, region, pixel=0.5)) == (ids, [])


def test_from_afar_small_objects_are_dots_and_outlines_are_thin(path: Path) -> None:
    found = outlines_in(path, PLACES, WHOLE, pixel=4.5)
    assert _ids(found) == ([1], [2, 3])
    assert found["dots"][0] == {"id": 2, "class": "nucleus", "x": 103.0, "y": 53.0}
    stairs = np.array([[0, 0], [1, 0], [1, 1], [2, 1], [8, 1], [8, 9], [0, 9], [0, 0]], np.float64)
    thinned = object_outlines._thinned(stairs, 4.0)
    assert thinned.tolist() == [[0, 0], [8, 1], [8, 9], [0, 9], [0, 0]]
    assert object_outlines._thinned(stairs, 1.0) is stairs


def test_of_too_many_objects_the_largest_come(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_outlines, "MAX_OBJECTS", 2)
    found = outlines_in(path, PLACES, WHOLE, pixel=1.0)
    assert (_ids(found), found["total"]) == (([1, 2], []), 3)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"name":"2"', '"name":"7"', "does not hold the objects of cells.csv"),
        ('"type":"Polygon"', '"type":"Point"', "object 1 is damaged"),
        ("[40,20]", "[40,null]", "object 1 is damaged"),
        ("[40,20]", "[40,20,1]", "object 1 is damaged"),
        ("[40,20]", "40", "object 1 is damaged"),
        ('"geometry"', '"geometri"', "object 1 is damaged"),
        ("[40,20]", "[40,2", "object 1 is damaged"),
        ("[40,20]", "[40,1e999]", "object 1 is damaged"),
        ("\n]}", "]}", "does not hold the objects of cells.csv"),
        (",\n", ",\n\n", "does not hold the objects of cells.csv"),
    ],
)
def test_damage_is_said_in_a_sentence(path: Path, old: str, new: str, said: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SlideError, match=rf"objects.geojson: {said}.* Predict the slide again\."):
        outlines_in(path, PLACES, WHOLE, pixel=1.0)


def test_an_endless_object_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_outlines, "_MAX_BYTES", 100)
    with pytest.raises(SlideError, match=r"object 1 is larger than 100 bytes"):
        outlines_in(path, PLACES, WHOLE, pixel=1.0)


def test_a_slide_without_objects_has_no_outlines(tmp_path: Path) -> None:
    with ObjectFile(tmp_path / "objects.geojson", slide="a.tif", classes=CLASSES, downsample=1):
        pass
    none = np.zeros(0)
    places = ObjectPlaces(none.astype(np.int64), [], none, none, none)
    found = outlines_in(tmp_path / "objects.geojson", places, WHOLE, pixel=1.0)
    assert json.dumps(found) == '{"objects": [], "dots": [], "total": 0}'


def _zipped(path: Path, *texts: bytes) -> Path:
    found = path.with_name("objects.geojson.zip")
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, text in enumerate(texts):
            archive.writestr(f"{number}.geojson", text)
    return found


def test_a_zip_gives_the_same_objects(path: Path) -> None:
    zipped = _zipped(path, path.read_bytes())
    for _ in range(2):
        assert outlines_in(zipped, PLACES, WHOLE, pixel=0.5) == outlines_in(path, PLACES, WHOLE, pixel=0.5)


def test_a_damaged_zip_is_refused(path: Path) -> None:
    text = path.read_bytes()
    for found in (_zipped(path), _zipped(path, text, text), _zipped(path, bytes(10**7))):
        with pytest.raises(SlideError, match=r"objects.geojson.zip: is damaged \(.*\). Predict the slide again\."):
            outlines_in(found, PLACES, WHOLE, pixel=0.5)
    whole = _zipped(path, text).read_bytes()
    as_bzip2 = whole[: whole.rfind(b"PK\1\2") + 10] + b"\x0c" + whole[whole.rfind(b"PK\1\2") + 11 :]
    for damaged in (whole[:100], b"", whole[:60] + b"\xff" * 20 + whole[80:], as_bzip2):
        found.write_bytes(damaged)
        with pytest.raises(SlideError, match=r"objects.geojson.zip: is damaged \(.*\). Predict the slide again\."):
            outlines_in(found, PLACES, WHOLE, pixel=0.5)
