import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from cytoseg.predict.outlines import polygons, signed_area


def geometry_of(mask: NDArray[np.bool_]) -> shapely.MultiPolygon:
    return shapely.MultiPolygon([shapely.Polygon(p.exterior, p.holes) for p in polygons(mask)])


def test_a_rectangle_has_four_corners() -> None:
    mask = np.zeros((4, 5), np.bool_)
    mask[1:3, 1:4] = True
    (polygon,) = polygons(mask)
    assert sorted(map(tuple, polygon.exterior.tolist())) == [(1, 1), (1, 3), (4, 1), (4, 3)]
    assert signed_area(polygon.exterior) == 6
    assert polygon.holes == ()


def test_a_hole_is_kept() -> None:
    mask = np.ones((3, 3), np.bool_)
    mask[1, 1] = False
    (polygon,) = polygons(mask)
    (hole,) = polygon.holes
    assert sorted(map(tuple, hole.tolist())) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert signed_area(hole) == -1


def test_pixels_that_touch_at_a_corner_are_two_polygons() -> None:
    found = polygons(np.eye(2, dtype=np.bool_))
    assert [polygon.exterior.min(axis=0).tolist() for polygon in found] == [[0, 0], [1, 1]]
    assert geometry_of(np.eye(2, dtype=np.bool_)).is_valid


def test_a_hole_that_touches_the_outside_at_a_corner_is_valid() -> None:
    mask = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]], np.bool_)
    geometry = geometry_of(mask)
    assert geometry.is_valid
    assert geometry.area == 13


@pytest.mark.parametrize("seed", range(60))
def test_any_mask_gives_valid_polygons_that_cover_its_pixels_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 12, 2)) < rng.choice([0.3, 0.5, 0.7, 0.9])
    geometry = geometry_of(mask)
    assert geometry.is_valid, shapely.is_valid_reason(geometry)
    assert geometry.area == mask.sum()
    row, column = np.indices(mask.shape) + 0.5
    np.testing.assert_array_equal(shapely.contains_xy(geometry, column, row), mask)
    assert len(polygons(mask)) == ndimage.label(mask)[1]
