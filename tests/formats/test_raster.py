from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.draw import polygon as polygon_of_skimage

from cytoseg.formats import raster
from cytoseg.formats.raster import (
    Stamp,
    fill_rings,
    path_pixels,
    placed_mask,
    point_pixels,
    ring_centres,
    ring_outline,
)
from cytoseg.geometry import Size


def pressed(stamp: Stamp, size: Size) -> NDArray[np.uint8]:
    label_map = np.zeros((size.height, size.width), np.uint8)
    stamp.press(label_map, 1)
    return label_map


def points(*xy: tuple[float, float]) -> NDArray[np.float64]:
    return np.array(xy, np.float64)


SIZE = Size(6, 4)
SQUARE = points((1, 1), (3, 1), (3, 3), (1, 3))


def test_a_square_between_whole_numbers_covers_its_area() -> None:
    expected = [[0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(pressed(ring_centres(SQUARE, SIZE), SIZE), expected)


def test_the_outline_rule_takes_whole_numbers_for_pixel_indices() -> None:
    expected = [[0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0]]
    np.testing.assert_array_equal(pressed(ring_outline(SQUARE, SIZE), SIZE), expected)


@pytest.mark.parametrize("fill", [ring_centres, ring_outline])
def test_a_ring_covers_the_same_pixels_wherever_it_lies(fill: Callable[..., Stamp]) -> None:
    size = Size(30, 20)
    at_the_corner, moved = (pressed(fill(ring, size), size) for ring in (SQUARE, SQUARE + points((21, 13))))
    np.testing.assert_array_equal(moved[13:, 21:], at_the_corner[:7, :9])
    assert moved.sum() == at_the_corner.sum() == {ring_centres: 4, ring_outline: 9}[fill]


def test_a_centre_on_an_edge_belongs_to_the_right_and_lower_neighbour() -> None:
    left, right = points((0, 0), (2.5, 0), (2.5, 4), (0, 4)), points((2.5, 0), (6, 0), (6, 4), (2.5, 4))
    both = pressed(ring_centres(left, SIZE), SIZE) + pressed(ring_centres(right, SIZE), SIZE)
    np.testing.assert_array_equal(both, 1)
    assert pressed(ring_centres(left, SIZE), SIZE)[0].tolist() == [1, 1, 0, 0, 0, 0]


def test_a_ring_that_crosses_itself_is_even_odd() -> None:
    twice_round = np.concatenate([points((0, 0), (6, 0), (6, 4), (0, 4), (0, 0)), SQUARE, SQUARE[:1]])
    assert pressed(ring_centres(twice_round, SIZE), SIZE).tolist()[1] == [1, 0, 0, 1, 1, 1]


def test_the_direction_of_a_ring_does_not_matter() -> None:
    ring = points((0.2, 0.1), (5.5, 1.3), (2.0, 3.9))
    np.testing.assert_array_equal(
        pressed(ring_centres(ring, SIZE), SIZE), pressed(ring_centres(ring[::-1], SIZE), SIZE)
    )


@pytest.mark.parametrize("fill", [ring_centres, ring_outline])
def test_a_stamp_is_the_ring_with_one_pixel_around_it(fill: Callable[..., Stamp]) -> None:
    stamp = fill(points((3.5, 2.5), (5.5, 2.5), (5.5, 7.5), (3.5, 7.5)), Size(20, 20))
    assert (stamp.x, stamp.y, stamp.mask.shape) == (2, 1, (8, 5))


def test_no_point_in_the_picture_gives_an_empty_stamp_in_its_corner() -> None:
    stamp = point_pixels(points((-1, 2), (9, 9)), SIZE)
    assert (stamp.x, stamp.y, stamp.mask.shape) == (0, 0, (0, 0))


@pytest.mark.parametrize("fill", [ring_centres, ring_outline])
def test_rings_are_cut_to_the_picture_without_costing_memory(fill: object) -> None:
    huge = points((-9e6, -9e6), (9e6, -9e6), (9e6, 9e6), (-9e6, 9e6))
    assert callable(fill)
    np.testing.assert_array_equal(pressed(fill(huge, SIZE), SIZE), 1)
    assert fill(SQUARE + 100, SIZE).empty
    assert fill(SQUARE - 100, SIZE).empty
    assert fill(SQUARE + points((100, 0)), SIZE).empty
    assert fill(SQUARE + points((0, 100)), SIZE).empty


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), corners=st.integers(3, 9))
def test_rings_agree_with_scikit_image(seed: int, corners: int) -> None:
    ring = np.random.default_rng(seed).uniform(-5, 25, (corners, 2))
    size = Size(20, 17)
    expected = np.zeros((17, 20), np.uint8)
    expected[polygon_of_skimage(ring[:, 1] - 0.5, ring[:, 0] - 0.5, expected.shape)] = 1
    np.testing.assert_array_equal(pressed(ring_centres(ring, size), size), expected)


def test_a_line_covers_what_it_passes_through() -> None:
    expected = [[1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(pressed(path_pixels(points((0.2, 0.3), (2.8, 1.6)), SIZE), SIZE), expected)


def test_a_diagonal_through_corners_leaves_out_what_it_only_touches() -> None:
    np.testing.assert_array_equal(pressed(path_pixels(points((4, 4), (0, 0)), SIZE), SIZE)[:, :4], np.eye(4))


def test_rounding_at_a_corner_adds_no_pixel() -> None:
    """The line meets the corner (1, 3), where its cuts with both grid lines differ by a rounding error."""
    covered = pressed(path_pixels(points((0, 0), (1.2, 3.6)), SIZE), SIZE)
    assert covered[:, :2].tolist() == [[1, 0], [1, 0], [1, 0], [0, 1]]


def test_a_line_that_starts_on_a_grid_line_covers_only_its_own_side() -> None:
    assert pressed(path_pixels(points((3, 1.5), (1, 1.5)), SIZE), SIZE)[1].tolist() == [0, 1, 1, 0, 0, 0]


def test_a_line_without_length_covers_one_pixel() -> None:
    covered = pressed(path_pixels(points((2.5, 1.5), (2.5, 1.5)), SIZE), SIZE)
    assert covered.sum() == 1
    assert covered[1, 2] == 1


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_line_covers_every_pixel_that_dense_points_on_it_meet(seed: int) -> None:
    a, b = np.random.default_rng(seed).uniform(-3, 15, (2, 2))
    size = Size(12, 9)
    met = point_pixels(a + np.linspace(0, 1, 20001)[:, None] * (b - a), size)
    line = pressed(path_pixels(np.stack([a, b]), size), size)
    assert np.all(line >= pressed(met, size))
    # Dense points may miss a corner that the line cuts by less than their distance.
    assert line.sum() - pressed(met, size).sum() <= 1


def test_points_on_the_far_border_belong_to_the_last_pixel_and_points_beyond_are_left_out() -> None:
    covered = pressed(point_pixels(points((6, 4), (0, 0), (6.01, 2), (-0.01, 2)), SIZE), SIZE)
    assert covered.sum() == 2
    assert covered[0, 0] == covered[3, 5] == 1


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [(1, 1, 4), (-1, 0, 2), (5, 3, 1), (-2, 0, 0), (6, 0, 0), (0, -2, 0), (0, 4, 0)],
)
def test_a_mask_is_cut_to_the_picture(x: int, y: int, expected: int) -> None:
    stamp = placed_mask(np.ones((2, 2), np.bool_), x=x, y=y, size=SIZE)
    assert pressed(stamp, SIZE).sum() == expected
    assert stamp.empty == (expected == 0)


def test_a_mask_need_not_be_square() -> None:
    mask = np.array([[True, False, True]])
    wide, high = placed_mask(mask, x=2, y=1, size=SIZE), placed_mask(mask.T, x=2, y=1, size=SIZE)
    assert [np.argwhere(pressed(stamp, SIZE)).tolist() for stamp in (wide, high)] == [
        [[1, 2], [1, 4]],
        [[1, 2], [3, 2]],
    ]


def test_a_cut_mask_keeps_the_right_part() -> None:
    stamp = placed_mask(np.array([[True, False], [False, True]]), x=-1, y=-1, size=SIZE)
    assert pressed(stamp, SIZE)[0, 0] == 1


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_ring_rounds_alike_in_both_directions(seed: int) -> None:
    """Corners on centre lines and third parts of pixels, where rounding decides."""
    ring = np.random.default_rng(seed).integers(0, 60, (5, 2)) / 6
    np.testing.assert_array_equal(
        pressed(ring_centres(ring, SIZE), SIZE), pressed(ring_centres(ring[::-1].copy(), SIZE), SIZE)
    )


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_stamp_without_another_is_the_difference_of_their_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (
        placed_mask(rng.random(rng.integers(1, 6, 2)) < 0.7, x=int(x), y=int(y), size=SIZE)
        for x, y in rng.integers(-2, 6, (2, 2))
    )
    wanted = pressed(first, SIZE).astype(bool) & ~pressed(second, SIZE).astype(bool)
    np.testing.assert_array_equal(pressed(first.without(second), SIZE), wanted)


@pytest.mark.parametrize(("end", "covered"), [((1.5, 0.5), [(0, 0), (0, 1)]), ((0.5, 1.5), [(0, 0), (1, 0)])])
def test_a_line_of_exactly_one_pixel_of_length_passes_through_two(
    end: tuple[float, float], covered: list[tuple[int, int]]
) -> None:
    found = pressed(path_pixels(points((0.5, 0.5), end), SIZE), SIZE)
    assert [tuple(place) for place in np.argwhere(found).tolist()] == covered


def test_rings_filled_together_are_the_rings_filled_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    rings = [rng.uniform(-20, 60, 2) + rng.normal(0, size, (n, 2)) for size in (0.2, 3, 40) for n in range(3, 13)]
    size = Size(40, 30)
    one_by_one = [pressed(ring_centres(ring, size), size) for ring in rings]
    assert {int(one.any()) for one in one_by_one} == {0, 1}  # some lie outside
    for most_rings, most_values in ((1000, 1_000_000), (7, 1_000_000), (1000, 500), (1000, 1)):
        monkeypatch.setattr(raster, "_MAX_RINGS", most_rings)
        monkeypatch.setattr(raster, "_MAX_VALUES", most_values)
        together = list(fill_rings(iter(rings), size))
        np.testing.assert_array_equal([pressed(one, size) for one in together], one_by_one)


def test_no_ring_gives_no_stamp() -> None:
    assert list(fill_rings([], SIZE)) == []


def test_a_long_line_covers_what_its_segments_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    line, size = np.random.default_rng(6).uniform(-10, 50, (23, 2)), Size(40, 30)
    segments = [pressed(path_pixels(line[i : i + 2], size), size) for i in range(22)]
    for most in (256, 22, 5, 1):
        monkeypatch.setattr(raster, "_MAX_LINES", most)
        np.testing.assert_array_equal(pressed(path_pixels(line, size), size), np.max(segments, axis=0))
