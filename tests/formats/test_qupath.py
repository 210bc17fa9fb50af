import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cytoseg.formats.qupath import GeoFile, is_geojson, read_geojson
from tests.labels.features import box, feature

Write = Callable[..., Path]
TRIANGLE = ((1.5, 1), (3, 1), (3, 3.25))


def read(path: Path) -> GeoFile:
    problems: list[str] = []
    file = read_geojson(path, name=path.name, problems=problems)
    assert problems == []
    assert file is not None
    return file


def problems_of(path: Path) -> list[str]:
    problems: list[str] = []
    assert read_geojson(path, name=path.name, problems=problems) is None
    return problems


def geometry(kind: str, coordinates: Any) -> dict[str, Any]:
    return {"geometry": {"type": kind, "coordinates": coordinates}}


def collection(*features: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)}


@pytest.mark.parametrize(
    "wrap",
    [
        *[lambda f: f, lambda f: [f], collection, lambda f: [[f]], lambda f: [collection(f)]],
        *[lambda f: collection(collection(f)), lambda f: [collection(), [collection(f)]]],
    ],
)
def test_a_feature_alone_in_a_list_or_in_a_collection(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    content = wrap(feature("cell", *TRIANGLE))
    assert is_geojson(content)
    (tmp_path / "s.geojson").write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    (found,) = read(tmp_path / "s.geojson").features
    assert (found.number, found.where, found.label) == (1, "s.geojson, feature 1", "cell")
    (shape,) = found.shapes
    assert (shape.kind, shape.label, shape.points, shape.holes) == ("polygon", "cell", TRIANGLE, ())
    assert found.bounds == (1.5, 1, 3, 3.25)


def test_features_of_joined_exports_are_numbered_through(tmp_path: Path) -> None:
    content = [collection(box("cell", 0, 0, 2, 2), collection(box("cell", 4, 0, 2, 2))), box("nucleus", 8, 0, 2, 2)]
    (tmp_path / "s.geojson").write_text(json.dumps(content))
    found = read(tmp_path / "s.geojson").features
    assert [(one.number, one.label, one.bounds[0]) for one in found] == [
        (1, "cell", 0),
        (2, "cell", 4),
        (3, "nucleus", 8),
    ]
    (tmp_path / "s.geojson").write_text(json.dumps([collection(), {"type": "FeatureCollection", "features": 7}]))
    assert problems_of(tmp_path / "s.geojson") == [
        "s.geojson: 'features' is a number, but must be a list. Export it again from QuPath."
    ]


@pytest.mark.parametrize("content", [[], {}, [1], {"shapes": []}, {"type": "Polygon"}, "text", [{"type": "Point"}]])
def test_other_json_is_no_geojson(content: object) -> None:
    assert not is_geojson(content)


def test_an_export_without_objects_is_empty(tmp_path: Path) -> None:
    (tmp_path / "s.geojson").write_text("[]")
    assert read(tmp_path / "s.geojson").features == ()


def test_all_geometries_become_shapes(tmp_path: Path, write_geojson: Write) -> None:
    square, hole = [[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]], [[2, 2], [4, 2], [4, 4], [2, 2]]
    far = [[20, 20], [29, 20], [29, 29], [20, 20]]
    geometries = [
        geometry("Polygon", [square, hole]),
        geometry("MultiPolygon", [[square, hole], [], [far]]),
        geometry("LineString", [[0, 0], [1, 1]]),
        geometry("LineString", [[0, 0], [1, 1], [2, 0.5]]),
        geometry("MultiLineString", [[[0, 0], [1, 1]], [[5, 5], [6, 6]]]),
        geometry("Point", [3, 4, 0]),
        geometry("MultiPoint", [[3, 4], [5, 6]]),
        {
            "geometry": {
                "type": "GeometryCollection",
                "geometries": [geometry("Point", [1, 2])["geometry"], geometry("Polygon", [far])["geometry"]],
            }
        },
    ]
    path = write_geojson(tmp_path / "s.geojson", *(feature("cell", **keys) for keys in geometries))
    kinds = [[shape.kind for shape in found.shapes] for found in read(path).features]
    assert kinds == [
        ["polygon"],
        ["polygon", "polygon"],
        ["line"],
        ["linestrip"],
        ["line", "line"],
        ["point"],
        ["points"],
        ["point", "polygon"],
    ]
    first, second = (found.shapes for found in read(path).features[:2])
    assert first[0].holes == (((2, 2), (4, 2), (4, 4)),)
    assert (second[0].points, second[1].points) == (first[0].points, ((20, 20), (29, 20), (29, 29)))
    assert read(path).features[5].shapes[0].points == ((3, 4),)


def test_a_ring_that_is_not_closed_is_closed(tmp_path: Path, write_geojson: Write) -> None:
    path = write_geojson(tmp_path / "s.geojson", feature("cell", **geometry("Polygon", [[[0, 0], [9, 0], [9, 9]]])))
    assert read(path).features[0].shapes[0].points == ((0, 0), (9, 0), (9, 9))


@pytest.mark.parametrize(
    ("classification", "label"),
    [
        ({"name": "Tumor: Positive", "colorRGB": -3670016}, "Tumor: Positive"),
        ({"names": ["Tumor", "Positive"], "color": [1, 2, 3]}, "Tumor: Positive"),
        ({"name": " Zellkern/клетка/细胞 ", "names": ["x"]}, "Zellkern/клетка/细胞"),
        ("cell", "cell"),
    ],
)
def test_the_class_of_every_version(tmp_path: Path, write_geojson: Write, classification: Any, label: str) -> None:
    path = write_geojson(tmp_path / "s.geojson", box(None, 0, 0, 2, 2, properties={"classification": classification}))
    assert read(path).features[0].label == label


def test_what_is_left_out_is_counted_and_carried_along(tmp_path: Path, write_geojson: Write) -> None:
    objects = [
        box(None, 0, 0, 2, 2),
        box(None, 0, 0, 2, 2, properties=None),
        box(None, 0, 0, 2, 2, properties={"classification": None}),
        box(None, 0, 0, 2, 2, properties={"classification": {"colorRGB": 1}}),
        feature("cell", geometry=None),
        feature("cell", **geometry("MultiPolygon", [[], []])),
        feature("cell", **geometry("Polygon", [])),
        feature("cell", **geometry("Polygon", [[]])),
        box("cell", 0, 0, 2, 2, properties={"classification": {"name": "cell"}, "objectType": "tile"}),
        box("cell", 0, 0, 2, 2, properties={"classification": {"name": "cell"}, "object_type": "tma_core"}),
        box("cell", 0, 0, 2, 2, id="PathTileObject", properties={"classification": {"name": "cell"}}),
        box("cell", 0, 0, 2, 2, nucleusGeometry=box(None, 0, 0, 1, 1)["geometry"]),
    ]
    file = read(write_geojson(tmp_path / "s.geojson", *objects))
    assert file.left_out == {
        "without a class": 4,
        "without a geometry": 4,
        "tiles and cores": 3,
        "nuclei within cell objects": 1,
    }
    assert [dict(found.raw) for found in file.features] == objects
    assert [len(found.shapes) for found in file.features] == [0] * 11 + [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type": "FeatureCollection", "features": [', "s.geojson: is cut off or damaged ("),
        ('"\xff"', "s.geojson: is not UTF-8 text"),
        ("{}", "s.geojson: holds a table without GeoJSON features. Export it again from QuPath."),
        ("7", "s.geojson: holds a number without GeoJSON features"),
        ('{"type": "FeatureCollection"}', "s.geojson: 'features' is null, but must be a list"),
        ('[{"type": "Feature"}, 5]', "s.geojson, feature 2: is a number, not a GeoJSON feature"),
    ],
)
def test_a_file_that_is_no_geojson_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.geojson").write_text(text, encoding="latin-1")
    (problem,) = problems_of(tmp_path / "s.geojson")
    assert problem.startswith(message)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (geometry("Polygon", [[[0, 0], [1, "x"], [2, 2]]]), "coordinate 'x' is not a number of pixels"),
        (geometry("Polygon", [[[0, 0], [1, None], [2, 2]]]), "coordinate None is not a number of pixels"),
        (geometry("Polygon", [[[0, 0], [1, float("nan")], [2, 2]]]), "coordinate nan is not a number of pixels"),
        (geometry("Polygon", [[[0, 0], [1e300, 0], [2, 2]]]), "coordinate 1e+300 is not a number of pixels"),
        (geometry("Polygon", [[[0, 0], [-(10**400), 0], [2, 2]]]), "is not a number of pixels"),
        (geometry("Polygon", [[[0, 0], [9, 0], [0, 0]]]), "a ring has at least 3 corners, found 2"),
        (geometry("Polygon", [[[0, 0]]]), "a ring has at least 3 corners, found 1"),
        (geometry("Polygon", [[[0, 0], [9, 0], [9, 9]], []]), "a ring has at least 3 corners, found 0"),
        (geometry("Polygon", [[[0, 0], [9, 0], [9, 9]], [[9, 0], [0, 0], [9, 9]]]), "a hole covers all of it"),
        (geometry("Polygon", [[[0], [9, 0], [9, 9]]]), "coordinates must be lists of [x, y], found [[0]"),
        (geometry("Polygon", ["ring"]), "coordinates must be lists of [x, y], found 'ring'"),
        (geometry("Polygon", None), "'coordinates' is null, but must be a list"),
        (geometry("MultiPolygon", [7]), "'coordinates' is a number, but must be a list"),
        (geometry("LineString", [[1, 1]]), "a line has at least 2 points, found 1"),
        (geometry("Point", [1]), "coordinates must be lists of [x, y], found [[1]]"),
        (geometry("Circle", [[1, 1]]), "the geometry 'Circle' is unknown"),
        ({"geometry": {"type": "GeometryCollection"}}, "'geometries' is null, but must be a list"),
        (
            {"geometry": {"type": "GeometryCollection", "geometries": [{"type": "GeometryCollection"}]}},
            "holds a collection within a collection",
        ),
        ({"geometry": "here"}, "'geometry' is text, but must be an object"),
        ({"properties": [1]}, "'properties' is a list, but must be an object"),
        ({"properties": {"classification": 7}}, "the class is 7, but must have a name"),
        ({"properties": {"classification": {"name": ["a"]}}}, "the class is ['a'], but must have a name"),
    ],
)
def test_a_wrong_feature_is_reported_with_file_and_number(
    tmp_path: Path, write_geojson: Write, keys: dict[str, Any], message: str
) -> None:
    path = write_geojson(tmp_path / "s.geojson", box("cell", 0, 0, 2, 2), feature("cell", **keys))
    (problem,) = problems_of(path)
    assert re.match(r"s\.geojson, feature 2: ", problem)
    assert message in problem


def test_all_wrong_features_are_reported(tmp_path: Path, write_geojson: Write) -> None:
    wrong = feature("cell", geometry="here")
    found = problems_of(write_geojson(tmp_path / "s.geojson", wrong, box("cell", 0, 0, 1, 1), wrong))
    said = "'geometry' is text, but must be an object"
    assert [problem[: problem.index(said)] for problem in found] == ["s.geojson, feature 1: ", "s.geojson, feature 3: "]


def test_a_line_of_too_many_points_is_refused(tmp_path: Path) -> None:
    long = feature("cell", *TRIANGLE) | geometry("LineString", [[0, 0], [5, 5]] * 50_001)
    (tmp_path / "s.geojson").write_text(json.dumps(long))
    assert problems_of(tmp_path / "s.geojson") == [
        "s.geojson, feature 1: a line has at most 100,000 points, found 100,002. Draw it again or delete it."
    ]


def on_plane(plane: object) -> dict[str, Any]:
    made = box("cell", 0, 0, 2, 2)
    made["geometry"]["plane"] = plane
    return made


def test_annotations_on_one_plane_of_a_stack_are_read(tmp_path: Path, write_geojson: Write) -> None:
    path = write_geojson(tmp_path / "s.geojson", on_plane({"c": -1, "z": 3, "t": 0}), on_plane({"c": 2, "z": 3}))
    assert len(read(path).features) == 2


@pytest.mark.parametrize("plane", [None, {"z": 0, "t": 4}, {"z": [1]}])
def test_annotations_on_several_planes_are_refused(tmp_path: Path, write_geojson: Write, plane: object) -> None:
    """They were painted over each other."""
    path = write_geojson(tmp_path / "s.geojson", on_plane({"c": -1, "z": 3, "t": 0}), on_plane(plane))
    (problem,) = problems_of(path)
    assert re.match(
        r"s\.geojson: its annotations are on 2 planes \(z .*, t \d; z .*, t \d\), but cytoseg reads one\. Delete those "
        r"on the others in QuPath\.$",
        problem,
    )
