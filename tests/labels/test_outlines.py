import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from shapely import geometry

from cytoseg.formats.raster import ring_centres
from cytoseg.geometry import Size
from cytoseg.labels.outlines import Polygon, outline


def mask(*rows: str) -> NDArray[np.bool_]:
    """``#`` is in the mask."""
    return np.array([[value == "#" for value in row] for row in rows])


def refilled(polygons: list[Polygon], size: Size) -> NDArray[np.bool_]:
    """Fill the polygons by the pixel-centre rule."""
    out = np.zeros((size.height, size.width), np.uint8)
    for polygon in polygons:
        ring_centres(polygon.exterior.astype(np.float64), size).press(out, 1)
        for hole in polygon.holes:
            ring_centres(hole.astype(np.float64), size).press(out, 0)
    return out.astype(np.bool_)


def test_one_pixel_is_a_square() -> None:
    (polygon,) = outline(mask("...", ".#."))
    assert sorted(map(tuple, polygon.exterior.tolist())) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert polygon.holes == ()


def test_a_frame_has_a_hole_and_only_true_corners() -> None:
    (polygon,) = outline(mask("####", "#..#", "####"))
    assert sorted(map(tuple, polygon.exterior.tolist())) == [(0, 0), (0, 3), (4, 0), (4, 3)]
    assert [sorted(map(tuple, hole.tolist())) for hole in polygon.holes] == [[(1, 1), (1, 2), (3, 1), (3, 2)]]


@pytest.mark.parametrize("empty", [mask("..."), np.zeros((0, 0), np.bool_), np.zeros((3, 0), np.bool_)])
def test_an_empty_mask_has_no_outline(empty: NDArray[np.bool_]) -> None:
    assert outline(empty) == []


def test_pixels_that_touch_at_a_corner_are_two_polygons() -> None:
    for touching, corners in ((mask("#.", ".#"), [(0, 0), (1, 1)]), (mask(".#", "#."), [(0, 1), (1, 0)])):
        found = [set(map(tuple, polygon.exterior.tolist())) for polygon in outline(touching)]
        pixels = [{(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)} for x, y in corners]
        assert sorted(found, key=min) == pixels
        assert [len(polygon.exterior) for polygon in outline(touching)] == [4, 4]


def test_a_ring_of_pixels_closed_by_a_corner_has_a_hole_there() -> None:
    (polygon,) = outline(mask("##.", "#.#", "###"))
    assert (len(polygon.exterior), len(polygon.holes)) == (6, 1)
    assert geometry.Polygon(polygon.exterior, polygon.holes).is_valid


def test_each_hole_goes_to_the_polygon_round_it() -> None:
    rings = ("#######.###", "#.....#.#.#", "#.###.#.###", "#.#.#.#....", "#.###.#..##", "#.....#..##", "#######....")
    polygons = outline(mask(*rings))
    areas = [geometry.Polygon(polygon.exterior, polygon.holes).area for polygon in polygons]
    holes = [len(polygon.holes) for polygon in polygons]
    assert sorted(zip(areas, holes, strict=True)) == [(4, 0), (8, 1), (8, 1), (24, 1)]


@settings(deadline=None, max_examples=300)
@given(seed=st.integers(0, 2**32 - 1), density=st.floats(0.1, 0.95))
def test_polygons_are_valid_and_cover_the_mask_exactly(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.random(rng.integers(1, 14, 2)) < density
    polygons = outline(pixels)
    shapes = [geometry.Polygon(polygon.exterior, polygon.holes) for polygon in polygons]
    labels, count = ndimage.label(pixels)
    assert len(shapes) == count
    assert sorted(shape.area for shape in shapes) == sorted(np.bincount(labels.ravel())[1:].tolist())
    for polygon, shape in zip(polygons, shapes, strict=True):
        assert shape.is_valid
        assert geometry.LinearRing(polygon.exterior).is_ccw
        assert not any(geometry.LinearRing(hole).is_ccw for hole in polygon.holes)
    np.testing.assert_array_equal(refilled(polygons, Size(pixels.shape[1], pixels.shape[0])), pixels)
