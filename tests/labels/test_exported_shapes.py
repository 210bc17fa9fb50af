from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import geometry

from cytoseg.classes import ClassList
from cytoseg.formats.annotation import Annotation, Kind, Shape, covered, paint
from cytoseg.geometry import Region, Size
from cytoseg.labels.exported_shapes import frame_feature, labelme_shape, moved_feature, outside, qupath_feature, traced
from tests.labels.features import box

SIZE = Size(6, 4)
SQUARE = ((1.0, 1.0), (5.0, 1.0), (5.0, 4.0), (1.0, 4.0))


def pixels(shape: Shape, size: Size = SIZE) -> NDArray[np.uint8]:
    label_map = np.zeros((size.height, size.width), np.uint8)
    covered(shape, size, area="centre").press(label_map, 1)
    return label_map


def shapely_of(feature: dict[str, Any]) -> geometry.base.BaseGeometry:
    return geometry.shape(feature["geometry"])


def test_a_shape_without_holes_keeps_its_kind_and_points() -> None:
    entry = labelme_shape(Shape("cell", "linestrip", ((1.5, 2), (3, 4), (5, 1))), group_id=3, description="here")
    assert entry == {
        "label": "cell",
        "points": [[1.5, 2], [3, 4], [5, 1]],
        "group_id": 3,
        "description": "here",
        "shape_type": "linestrip",
        "flags": {},
        "mask": None,
    }


def test_a_hole_is_joined_by_a_slit_along_the_axes() -> None:
    hole = ((2.0, 2.0), (3.0, 2.0), (3.0, 3.0), (2.0, 3.0))
    entry = labelme_shape(Shape("cell", "polygon", SQUARE, holes=(hole,)))
    ring = entry["points"]
    assert ring == [
        *([1, 1], [2, 1], [2, 2], [3, 2], [3, 3], [2, 3], [2, 2], [2, 1], [1, 1]),
        *([5, 1], [5, 4], [1, 4]),
    ]
    joined = Shape("cell", "polygon", tuple((x, y) for x, y in ring))
    assert pixels(joined).tolist() == [[0] * 6, [0, 1, 1, 1, 1, 0], [0, 1, 0, 1, 1, 0], [0, 1, 1, 1, 1, 0]]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
@example(seed=7997)
@example(seed=211506)
def test_a_polygon_joined_to_its_holes_covers_the_same_pixels(seed: int) -> None:
    """Corners lie on centre lines of pixels too, where rounding decides."""
    rng = np.random.default_rng(seed)
    size = Size(40, 30)
    scale = rng.choice([1, 1 / 3, 0.5])

    def ring(x: int, y: int, width: int, height: int) -> tuple[tuple[float, float], ...]:
        along = np.sort(rng.integers(0, 4 * 12, 5)) / 48 * 2 * np.pi
        points = np.stack([x + width * (1 + np.cos(along)) / 2, y + height * (1 + np.sin(along)) / 2], axis=1)
        return tuple((float(px), float(py)) for px, py in np.rint(points / scale) * scale)

    corners = ((0.0, 0.0), (40.0, 0.0), (40.0, 30.0), (0.0, 30.0))
    shape = Shape("cell", "polygon", corners, holes=(ring(2, 2, 15, 12), ring(20, 3, 15, 20), ring(3, 16, 14, 10)))
    entry = labelme_shape(shape)
    joined = Shape("cell", "polygon", tuple((x, y) for x, y in entry["points"]))
    np.testing.assert_array_equal(pixels(joined, size), pixels(shape, size))


@pytest.mark.parametrize("fill", ["background", None])
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_traced_shapes_paint_the_label_map_again(fill: str | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = ClassList(("background", "cell"), ((0, 0, 0), (1, 1, 1)), fill)
    label_map = rng.choice(np.array([0, 1, 255], np.uint8), rng.integers(1, 9, 2))
    size = Size(label_map.shape[1], label_map.shape[0])
    shapes = tuple(traced(label_map, classes))
    assert {shape.label for shape in shapes} <= ({"cell", "__ignore__"} if fill else {"background", "cell"})
    np.testing.assert_array_equal(paint(Annotation("a", size, shapes), classes), label_map)


@pytest.mark.parametrize(
    ("kind", "points", "expected"),
    [
        ("polygon", SQUARE, geometry.box(1, 1, 5, 4)),
        ("rectangle", ((5.0, 1.0), (1.0, 4.0)), geometry.box(1, 1, 5, 4)),
        ("oriented_rectangle", SQUARE, geometry.box(1, 1, 5, 4)),
        ("point", ((1.0, 2.0),), geometry.Point(1, 2)),
        ("points", ((1.0, 2.0), (3.0, 1.0)), geometry.MultiPoint([(1, 2), (3, 1)])),
        ("line", ((1.0, 2.0), (3.0, 1.0)), geometry.LineString([(1, 2), (3, 1)])),
        ("linestrip", SQUARE, geometry.LineString(SQUARE)),
    ],
)
def test_every_kind_has_its_geometry(
    classes: ClassList, kind: Kind, points: tuple[tuple[float, float], ...], expected: geometry.base.BaseGeometry
) -> None:
    found = shapely_of(qupath_feature(Shape("cell", kind, points), {}, classes))
    assert found.geom_type == expected.geom_type
    assert found.equals(expected)


def test_a_circle_becomes_a_polygon_and_a_mask_its_outline(classes: ClassList) -> None:
    circle = shapely_of(qupath_feature(Shape("cell", "circle", ((9.0, 9.0), (9.0, 4.0))), {}, classes))
    assert circle.area == pytest.approx(np.pi * 25, rel=0.005)
    mask = np.array([[True, False], [True, True], [False, False], [False, True]])
    shape = Shape("cell", "mask", ((3.0, 2.0), (4.0, 5.0)), mask=mask)
    found = shapely_of(qupath_feature(shape, {}, classes))
    expected = [geometry.box(x + 3, y + 2, x + 4, y + 3) for y, x in np.argwhere(mask)]
    assert found.is_valid
    assert found.equals(geometry.MultiPolygon([]).union(geometry.GeometryCollection(expected).buffer(0)))


def test_what_labelme_says_of_a_shape_goes_where_qupath_has_a_place(classes: ClassList) -> None:
    entry = {"label": "cell", "points": [], "description": "sure", "group_id": 4, "flags": {"a": True}, "mask": None}
    assert qupath_feature(Shape("cell", "point", ((1, 2),)), entry, classes)["properties"] == {
        "objectType": "annotation",
        "classification": {"name": "cell", "color": [0, 90, 200]},
        "name": "sure",
        "metadata": {"group_id": "4", "flags": '{"a": true}'},
    }
    plain = qupath_feature(Shape("mucus", "point", ((1, 2),)), {"flags": {}}, classes)["properties"]
    assert plain == {"objectType": "annotation", "classification": {"name": "mucus"}}


def test_a_region_becomes_a_closed_rectangle() -> None:
    found = frame_feature(Region(3, 4, 5, 6), name="crop=a", label="Region*")
    assert found["geometry"] == {"type": "Polygon", "coordinates": [[[3, 4], [8, 4], [8, 10], [3, 10], [3, 4]]]}
    assert found["properties"]["name"] == "crop=a"
    assert found["properties"]["classification"] == {"name": "Region*"}


def test_what_lies_outside_the_region_is_ignored() -> None:
    assert outside([Shape("Region*", "polygon", ((0, 0), (6, 0), (6, 4), (0, 4)))], SIZE) == []
    frame = Shape("Region*", "polygon", SQUARE)
    (around,) = outside([frame], SIZE)
    assert around.label == "__ignore__"
    np.testing.assert_array_equal(pixels(around), 1 - pixels(frame))


def test_a_feature_moves_with_all_its_geometries() -> None:
    collection = {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [2, 3, 7]}]}
    found = moved_feature(
        box("cell", 1, 1, 2, 1, nucleusGeometry=collection), before=Region(1, 1, 4, 2), after=Region(10, 20, 8, 6)
    )
    assert found["geometry"]["coordinates"] == [[[10, 20], [14, 20], [14, 23], [10, 23], [10, 20]]]
    assert found["nucleusGeometry"]["geometries"][0]["coordinates"] == [12, 26, 7]
    assert found["properties"] == box("cell", 1, 1, 2, 1)["properties"]


@pytest.mark.parametrize("geometry_found", [None, "text", {"type": "Point", "coordinates": ["a", "b"]}])
def test_what_is_no_geometry_is_left_as_it_is(geometry_found: object) -> None:
    feature = {"type": "Feature", "geometry": geometry_found}
    assert moved_feature(feature, before=Region(0, 0, 1, 1), after=Region(5, 5, 2, 2)) == feature


def test_an_outline_and_a_hole_of_thousands_of_corners_are_joined() -> None:
    """All pairs of corners at once would take 6 GB."""
    angle = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    outer, inner = (tuple((float(x), float(y)) for x, y in 500 + r * circle) for r in (400, 390))
    points = labelme_shape(Shape("cell", "polygon", outer, holes=(inner,)))["points"]
    assert len(points) == 2 * 20_000 + 4
