from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cytoseg.geometry import Size
from cytoseg.slides.stitching import Stitcher, blend_window
from cytoseg.slides.tiling import TileGrid

quick = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def stitch(
    grid: TileGrid, whole: NDArray[np.float32], waiting: Path, *, left_out: frozenset[tuple[int, int]] = frozenset()
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Cut (C, H, W) into the tiles of a grid (0 outside) and join them again, but for those of some (x, y)."""
    side, size = grid.tile_px, grid.size
    padded = np.pad(whole, [(0, 0), (0, side), (0, side)])
    stitcher = Stitcher(size, channels=len(whole), tile_px=side, overlap_px=grid.overlap_px, waiting=waiting)
    joined, covered = np.full_like(whole, np.nan), np.zeros(whole.shape[1:], np.bool_)
    rows = list(grid.rows())
    for row, below in zip(rows, [*(row[0].y for row in rows[1:]), size.height], strict=True):
        stitcher.begin_row(row[0].y, below=below)
        for tile, right in zip(row, [*(tile.x for tile in row[1:]), size.width], strict=True):
            maps = padded[:, tile.y : tile.y + side, tile.x : tile.x + side]
            patch = stitcher.add(None if (tile.x, tile.y) in left_out else maps, right=right)
            place = np.s_[patch.y : patch.y + patch.maps.shape[1], patch.x : patch.x + patch.maps.shape[2]]
            assert np.isnan(joined[:, *place]).all()  # no pixel is given twice
            joined[:, *place], covered[place] = patch.maps, patch.covered
    return joined, covered


def test_the_window_rises_over_the_overlap_and_two_add_up_to_one() -> None:
    window = blend_window(6, 2)
    low, high = np.sin(np.pi / 8) ** 2, np.cos(np.pi / 8) ** 2
    np.testing.assert_allclose(window, [low, high, 1, 1, high, low], rtol=1e-6)
    np.testing.assert_allclose(window[4:] + window[:2], 1, rtol=1e-6)
    np.testing.assert_array_equal(blend_window(3, 0), [1, 1, 1])
    np.testing.assert_allclose(blend_window(3, 1), [0.5, 1, 0.5], rtol=1e-6)


@settings(deadline=None)
@given(tile_px=st.integers(1, 300), share=st.floats(0, 0.5))
def test_the_window_is_above_0(tile_px: int, share: float) -> None:
    assert blend_window(tile_px, int(share * tile_px)).min() > 0


def test_two_tiles_are_blended_where_they_overlap(tmp_path: Path) -> None:
    stitcher = Stitcher(Size(6, 4), channels=1, tile_px=4, overlap_px=2, waiting=tmp_path / "waiting")
    stitcher.begin_row(0, below=4)
    first = stitcher.add(np.zeros((1, 4, 4), np.float32), right=2)
    second = stitcher.add(np.full((1, 4, 4), 8, np.float32), right=6)
    low, high = 8 * np.sin(np.pi / 8) ** 2, 8 * np.cos(np.pi / 8) ** 2
    assert (first.x, first.maps.tolist(), second.x) == (0, [[[0, 0]] * 4], 2)
    np.testing.assert_allclose(second.maps[0], [[low, high, 8, 8]] * 4, rtol=1e-5)
    assert first.covered.all()
    assert second.covered.all()


def test_a_row_adds_to_what_the_row_above_left(tmp_path: Path) -> None:
    stitcher = Stitcher(Size(4, 6), channels=1, tile_px=4, overlap_px=2, waiting=tmp_path / "waiting")
    stitcher.begin_row(0, below=2)
    assert stitcher.add(np.zeros((1, 4, 4), np.float32), right=4).maps.tolist() == [[[0] * 4] * 2]
    stitcher.begin_row(2, below=6)
    patch = stitcher.add(np.full((1, 4, 4), 8, np.float32), right=4)
    low, high = 8 * np.sin(np.pi / 8) ** 2, 8 * np.cos(np.pi / 8) ** 2
    np.testing.assert_allclose(patch.maps[0, :, 0], [low, high, 8, 8], rtol=1e-5)
    assert (patch.x, patch.y) == (0, 2)


def test_a_missing_tile_takes_no_part(tmp_path: Path) -> None:
    stitcher = Stitcher(Size(6, 2), channels=1, tile_px=4, overlap_px=1, waiting=tmp_path / "waiting")
    stitcher.begin_row(0, below=2)
    patches = [stitcher.add(None, right=2), stitcher.add(np.full((1, 4, 4), 5, np.float32), right=6)]
    np.testing.assert_allclose(np.concatenate([p.maps[0] for p in patches], 1), [[0, 0, 5, 5, 5, 5]] * 2, rtol=1e-6)
    covered = np.concatenate([patch.covered for patch in patches], axis=1)
    np.testing.assert_array_equal(covered, [[False, False, True, True, True, True]] * 2)


@quick
@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    tile_px=st.integers(1, 24),
    share=st.floats(0, 0.5),
    value=st.floats(0, 1, width=32),
)
def test_constant_in_gives_constant_out(
    tmp_path: Path, width: int, height: int, tile_px: int, share: float, value: float
) -> None:
    grid = TileGrid(Size(width, height), tile_px=tile_px, overlap_px=int(share * tile_px))
    joined, covered = stitch(grid, np.full((2, height, width), value, np.float32), tmp_path / "waiting")
    np.testing.assert_allclose(joined, value, rtol=0, atol=1e-6)
    assert covered.all()


@quick
@given(width=st.integers(1, 40), height=st.integers(1, 40), tile_px=st.integers(1, 16), share=st.floats(0, 0.5))
def test_tiles_of_one_map_give_that_map(tmp_path: Path, width: int, height: int, tile_px: int, share: float) -> None:
    grid = TileGrid(Size(width, height), tile_px=tile_px, overlap_px=int(share * tile_px))
    whole = np.random.default_rng(width * 41 + height).random((3, height, width), np.float32)
    joined, covered = stitch(grid, whole, tmp_path / "waiting")
    np.testing.assert_allclose(joined, whole, rtol=0, atol=1e-6)
    assert covered.all()


@quick
@given(left_out=st.frozensets(st.tuples(st.sampled_from([0, 5, 10, 14]), st.sampled_from([0, 5, 8]))))
def test_what_no_tile_reaches_is_not_covered(tmp_path: Path, left_out: frozenset[tuple[int, int]]) -> None:
    grid = TileGrid(Size(22, 16), tile_px=8, overlap_px=3)
    whole = np.random.default_rng(1).random((1, 16, 22), np.float32)
    joined, covered = stitch(grid, whole, tmp_path / "waiting", left_out=left_out)
    expected = np.zeros((16, 22), np.bool_)
    for row in grid.rows():
        for tile in row:
            if (tile.x, tile.y) not in left_out:
                expected[tile.y : tile.y + 8, tile.x : tile.x + 8] = True
    np.testing.assert_array_equal(covered, expected)
    np.testing.assert_allclose(joined[0], whole[0] * expected, rtol=0, atol=1e-6)


def test_maps_of_another_shape_are_refused(tmp_path: Path) -> None:
    stitcher = Stitcher(Size(8, 8), channels=2, tile_px=4, overlap_px=0, waiting=tmp_path / "waiting")
    stitcher.begin_row(0, below=4)
    with pytest.raises(ValueError, match=r"maps of shape \(1, 4, 4\): 2 maps of 4 px are wanted"):
        stitcher.add(np.zeros((1, 4, 4), np.float32), right=4)


@pytest.mark.parametrize("beyond", [0, 5, 9])
def test_rows_and_columns_that_cannot_be_finished_are_refused(tmp_path: Path, beyond: int) -> None:
    size = Size(*[3 if beyond == 5 else 8] * 2)
    stitcher = Stitcher(size, channels=1, tile_px=4, overlap_px=0, waiting=tmp_path / "waiting")
    with pytest.raises(ValueError, match=f"rows 0 to {beyond}: 1 to 4 rows can be finished at a time"):
        stitcher.begin_row(0, below=beyond)
    stitcher.begin_row(0, below=3)
    with pytest.raises(ValueError, match=f"columns 0 to {beyond}: 1 to 4 columns can be finished at a time"):
        stitcher.add(None, right=beyond)
