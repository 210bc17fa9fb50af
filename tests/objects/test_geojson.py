import json
import uuid
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import shapely.geometry

from cytoseg.classes import ClassList
from cytoseg.formats.qupath import read_geojson
from cytoseg.objects.geojson import ObjectFile, Outlined

RING = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.bool_)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "objects.geojson"


def write(path: Path, classes: ClassList, *objects: Outlined, downsample: float = 1.0) -> list[dict[str, Any]]:
    with ObjectFile(path, slide="a.svs", classes=classes, downsample=downsample) as file:
        for found in objects:
            file.add(found)
    collection = json.loads(path.read_text(encoding="utf-8"))
    assert collection["type"] == "FeatureCollection"
    return list(collection["features"])


def test_an_object_is_what_qupath_calls_a_detection(path: Path, two_classes: ClassList) -> None:
    (feature,) = write(path, two_classes, Outlined(7, 1, 100, 50, RING, {"area_px": 8, "confidence_mean": 0.5}))
    assert feature["type"] == "Feature"
    assert uuid.UUID(feature["id"]).version == 5
    assert feature["properties"] == {
        "objectType": "detection",
        "name": "7",
        "classification": {"name": "cell", "color": [0, 90, 200]},
        "measurements": {"area_px": 8, "confidence_mean": 0.5},
    }


def test_measurements_have_four_digits_and_whole_numbers_no_point(path: Path, two_classes: ClassList) -> None:
    write(path, two_classes, Outlined(1, 1, 0, 0, RING, {"area_px": 178.0, "area_um2": 44.4567, "x": 0.00396545}))
    assert '"measurements":{"area_px":178,"area_um2":44.46,"x":0.003965}' in path.read_text()


@pytest.mark.parametrize("downsample", [1.0, 2.0, 1.37])
def test_the_outline_lies_in_level_0_pixels_and_is_closed(
    path: Path, two_classes: ClassList, downsample: float
) -> None:
    (feature,) = write(path, two_classes, Outlined(1, 1, 100, 50, RING, {}), downsample=downsample)
    rings = feature["geometry"]["coordinates"]
    assert all(ring[0] == ring[-1] for ring in rings)
    geometry = shapely.geometry.shape(feature["geometry"])
    assert geometry.is_valid
    assert geometry.area == pytest.approx(8 * downsample**2, rel=1e-3)
    assert len(geometry.interiors) == 1
    wanted = (100 * downsample, 50 * downsample, 103 * downsample, 53 * downsample)
    assert geometry.bounds == pytest.approx(wanted, abs=1e-3)


def test_coordinates_between_pixels_have_two_decimals(path: Path, two_classes: ClassList) -> None:
    (feature,) = write(path, two_classes, Outlined(1, 1, 3, 0, np.ones((1, 1), np.bool_), {}), downsample=1.2345)
    assert feature["geometry"]["coordinates"] == [[[3.7, 0], [4.94, 0], [4.94, 1.23], [3.7, 1.23], [3.7, 0]]]


def test_names_are_written_as_they_are_and_no_measurement_is_nan(path: Path) -> None:
    classes = ClassList(("Glas", "Zelle ü"), ((0, 0, 0), (9, 9, 9)), "Glas")
    write(path, classes, Outlined(1, 1, 0, 0, RING, {}))
    assert '"name":"Zelle ü"' in path.read_text(encoding="utf-8")
    with (
        ObjectFile(path, slide="s", classes=classes, downsample=1.0) as file,
        pytest.raises(ValueError, match="not JSON compliant"),
    ):
        file.add(Outlined(1, 1, 0, 0, RING, {"area_px": float("nan")}))


def test_whole_pixels_are_written_as_whole_numbers(path: Path, two_classes: ClassList) -> None:
    write(path, two_classes, Outlined(1, 1, 100, 50, np.ones((1, 1), np.bool_), {}))
    assert "[[[100,50],[101,50],[101,51],[100,51],[100,50]]]" in path.read_text()


def test_what_touches_at_a_corner_is_a_valid_multipolygon(path: Path, two_classes: ClassList) -> None:
    (feature,) = write(path, two_classes, Outlined(1, 1, 0, 0, np.eye(3, dtype=np.bool_), {}))
    geometry = shapely.geometry.shape(feature["geometry"])
    assert geometry.geom_type == "MultiPolygon"
    assert geometry.is_valid
    assert geometry.area == 3


def test_ids_differ_between_objects_but_not_between_writings(path: Path, two_classes: ClassList) -> None:
    objects = [Outlined(number, 1, number, 0, RING, {}) for number in (1, 2)]
    first = write(path, two_classes, *objects)
    content = path.read_bytes()
    ids = ["6527146c-e9b7-5c00-a62e-5915e9ccc6f9", "14eb54a6-956a-5797-b2f7-02b2f773ecfb"]
    assert [feature["id"] for feature in first] == ids
    write(path, two_classes, *objects)
    assert path.read_bytes() == content


def test_without_objects_the_collection_is_empty(path: Path, two_classes: ClassList) -> None:
    assert write(path, two_classes) == []


def test_a_zip_holds_the_same_text_and_is_read_as_an_export(path: Path, two_classes: ClassList) -> None:
    objects = [Outlined(number, 1, 10 * number, 0, RING, {"area_px": 8}) for number in (1, 2)]
    write(path, two_classes, *objects)
    zipped = path.with_name("objects.geojson.zip")
    for _ in range(2):
        with ObjectFile(zipped, slide="a.svs", classes=two_classes, downsample=1.0) as file:
            for found in objects:
                file.add(found)
        with zipfile.ZipFile(zipped) as archive:
            assert archive.namelist() == ["objects.geojson"]
            assert archive.read("objects.geojson") == path.read_bytes()
    problems: list[str] = []
    for one in (path, zipped):
        read = read_geojson(one, name=one.name, problems=problems)
        assert read is not None
        assert [(feature.name, feature.label, feature.bounds) for feature in read.features] == [
            ("1", "cell", (10, 0, 13, 3)),
            ("2", "cell", (20, 0, 23, 3)),
        ]
    assert problems == []
