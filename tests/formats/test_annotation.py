import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes
from skimage.measure import find_contours
from skimage.measure import label as components

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.formats.annotation import Annotation, Kind, Shape, paint
from cytoseg.geometry import Size

FILLED = ClassList(("background", "cell", "nucleus"), ((240, 240, 240), (0, 90, 200), (200, 0, 40)), "background")
UNFILLED = ClassList(FILLED.names, FILLED.colours)


def painted(*shapes: Shape, classes: ClassList = FILLED, width: int = 6, height: int = 4) -> list[list[int]]:
    result: list[list[int]] = paint(Annotation("a.json", Size(width, height), shapes), classes).tolist()
    return result


def rectangle(label: str, *corners: tuple[float, float]) -> Shape:
    return Shape(label, "rectangle", corners)


@pytest.mark.parametrize(
    ("kind", "points", "expected"),
    [
        ("polygon", ((1, 1), (3, 1), (3, 3), (1, 3)), [(1, 1), (1, 2), (2, 1), (2, 2)]),
        ("rectangle", ((3, 3), (1, 1)), [(1, 1), (1, 2), (2, 1), (2, 2)]),
        ("circle", ((2, 2), (2, 3)), [(1, 1), (1, 2), (2, 1), (2, 2)]),
        ("oriented_rectangle", ((2.5, 0.4), (4.6, 2.5), (3.5, 3.6), (1.4, 1.5)), None),
        ("line", ((0.5, 0.5), (3.5, 0.5)), [(0, 0), (0, 1), (0, 2), (0, 3)]),
        ("linestrip", ((0.5, 0.5), (1.5, 0.5), (1.5, 2.5)), [(0, 0), (0, 1), (1, 1), (2, 1)]),
        ("point", ((5.9, 3.9),), [(3, 5)]),
        ("points", ((0, 0), (4.2, 1.7)), [(0, 0), (1, 4)]),
    ],
)
def test_each_kind_covers_its_pixels(
    kind: Kind, points: tuple[tuple[float, float], ...], expected: list[tuple[int, int]] | None
) -> None:
    found = np.argwhere(np.array(painted(Shape("cell", kind, points))) == 1).tolist()
    if expected is None:  # the turned rectangle, written out by hand
        expected = [(0, 2), (1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (2, 4), (3, 3)]
    assert [tuple(place) for place in found] == expected


def test_a_mask_covers_its_own_pixels() -> None:
    mask = np.array([[True, False], [True, True]])
    shape = Shape("nucleus", "mask", ((4, 2), (5, 3)), mask=mask)
    assert painted(shape) == [[0] * 6, [0] * 6, [0, 0, 0, 0, 2, 0], [0, 0, 0, 0, 2, 2]]


@pytest.mark.parametrize("radius", [4, 8, 40])
def test_a_circle_keeps_its_area(radius: int) -> None:
    shape = Shape("cell", "circle", ((50.3, 50.8), (50.3 + radius, 50.8)))
    area = np.count_nonzero(painted(shape, width=101, height=101))
    assert area == pytest.approx(np.pi * radius**2, rel=0.03)


def test_later_shapes_cover_earlier_ones() -> None:
    cell, nucleus = rectangle("cell", (0, 0), (4, 1)), rectangle("nucleus", (1, 0), (3, 1))
    assert painted(cell, nucleus)[0] == [1, 2, 2, 1, 0, 0]
    assert painted(nucleus, cell)[0] == [1, 1, 1, 1, 0, 0]


def test_a_hole_is_what_unmarked_pixels_are() -> None:
    cell, hole = rectangle("cell", (0, 0), (4, 1)), rectangle("_background_", (1, 0), (3, 1))
    assert painted(cell, hole)[0] == [1, 0, 0, 1, 0, 0]
    assert painted(cell, hole, classes=UNFILLED)[0] == [1, 255, 255, 1, 255, 255]


def test_ignore_is_ignore_with_and_without_a_fill_class() -> None:
    assert painted(rectangle("__ignore__", (0, 0), (2, 1)))[0] == [255, 255, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "shape",
    [
        Shape("nucleus", "polygon", ((2.1, 1.1), (2.3, 1.1), (2.2, 1.3))),
        Shape("nucleus", "circle", ((2.2, 1.2), (2.3, 1.2))),
        Shape("nucleus", "rectangle", ((2.6, 1.6), (2.9, 1.9))),
        Shape("nucleus", "rectangle", ((2.2, 1.2), (2.2, 1.2))),
        Shape("nucleus", "line", ((2.2, 1.2), (2.2, 1.2))),
    ],
)
def test_the_smallest_shape_paints_the_pixel_under_it(shape: Shape) -> None:
    assert np.argwhere(painted(shape)).tolist() == [[1, 2]]


def test_a_thin_shape_between_centres_paints_the_pixels_under_it() -> None:
    assert painted(rectangle("nucleus", (1.2, 1.6), (3.8, 1.9)))[1] == [0, 2, 2, 2, 0, 0]


def test_an_area_of_very_many_corners_between_centres_is_painted_at_once() -> None:
    corners = tuple((1.1 + 0.3 * (i % 2), 1.1 + 0.1 * (i % 3)) for i in range(60_000))
    begin = time.process_time()
    label_map = np.array(painted(Shape("cell", "polygon", corners)))
    assert time.process_time() - begin < 1
    assert np.argwhere(label_map == 1).tolist() == [[1, 1]]


def test_the_holes_of_a_polygon_are_not_covered() -> None:
    corners = ((0.0, 0.0), (5.0, 0.0), (5.0, 4.0), (0.0, 4.0))
    holes = (((1.0, 1.0), (2.0, 1.0), (2.0, 3.0), (1.0, 3.0)), ((3.0, 0.0), (9.0, 0.0), (9.0, 2.0), (3.0, 2.0)))
    rows = painted(Shape("cell", "polygon", corners, holes=holes))
    assert rows == [[1, 1, 1, 0, 0, 0], [1, 0, 1, 0, 0, 0], [1, 0, 1, 1, 1, 0], [1, 1, 1, 1, 1, 0]]


def test_a_shape_may_say_where_it_is_from() -> None:
    with pytest.raises(LabelError, match=r"^b\.geojson, feature 7: the point 'cell' lies outside"):
        painted(Shape("cell", "point", ((7, 1),), where="b.geojson, feature 7"))


def test_what_sticks_out_is_cut_off() -> None:
    assert painted(rectangle("cell", (-3, -3), (1, 100)))[3] == [1, 0, 0, 0, 0, 0]


def test_the_outline_rule_is_half_a_pixel_larger() -> None:
    annotation = Annotation("a.json", Size(6, 4), (rectangle("cell", (1, 1), (3, 3)),))
    assert np.count_nonzero(paint(annotation, FILLED)) == 4
    assert np.count_nonzero(paint(annotation, FILLED, area="outline")) == 9


def test_a_shape_outside_is_refused() -> None:
    with pytest.raises(LabelError, match=r"a\.json, shape 1: the point 'cell' lies outside the 6x4 image\. Move"):
        painted(Shape("cell", "point", ((7, 1),)))


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(LabelError) as caught:
        painted(Shape("cells", "point", ((1, 1),)), rectangle("cell", (9, 9), (12, 12)))
    message = str(caught.value)
    assert "a.json: 2 problems" in message
    assert "shape 1: label 'cells' is not in the class list (background, cell, nucleus)" in message
    assert "shape 2: the rectangle 'cell' lies outside" in message


def traced(label_map: NDArray[np.uint8]) -> list[Shape]:
    """Trace every connected piece of one id along the border of its pixels, larger ones first."""
    pieces = []
    for number in np.unique(components(label_map + 1, connectivity=1)):
        piece = components(label_map + 1, connectivity=1) == number
        solid = binary_fill_holes(piece)
        (contour,) = find_contours(np.pad(solid, 1).astype(float), 0.5)
        # The contour runs midway between the centres; a pad of 1 and the half pixel to the corner make 0.5.
        corners = tuple((x - 0.5, y - 0.5) for y, x in contour[:-1])
        pieces.append((-int(solid.sum()), FILLED.names[int(label_map[piece][0])], corners))
    return [Shape(name, "polygon", corners) for _, name, corners in sorted(pieces)]


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2)))
def test_polygons_traced_from_a_label_map_paint_it_again(label_map: NDArray[np.uint8]) -> None:
    height, width = label_map.shape
    annotation = Annotation("a.json", Size(width, height), tuple(traced(label_map)))
    np.testing.assert_array_equal(paint(annotation, UNFILLED), label_map)
