import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cytoseg.geometry import Size
from cytoseg.slides.stitching import Stitcher, blend_window
from cytoseg.slides.tiling import Tile, TileGrid


def stitch(grid: TileGrid, whole: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut (C, H, W) into the tiles of a grid (0 outside) and join them again."""
    side = grid.tile_px
    padded = np.pad(whole, [(0, 0), (0, side), (0, side)])
    stitcher = Stitcher(grid.size, channels=len(whole), tile_px=side, overlap_px=grid.overlap_px)

    def add(tile: Tile) -> None:
        stitcher.add(padded[:, tile.y : tile.y + side, tile.x : tile.x + side], x=tile.x, y=tile.y)

    bands = []
    for row in grid.rows():
        if row[0].y > stitcher.top:
            bands.append(stitcher.finish(row[0].y))
        for tile in row:
            add(tile)
    bands.append(stitcher.finish(grid.size.height))
    assert all(covered.all() for _, covered in bands)
    return np.concatenate([band for band, _ in bands], axis=1)


def test_the_window_rises_over_the_overlap_and_two_add_up_to_one() -> None:
    window = blend_window(6, 2)
    low, high = np.sin(np.pi / 8) ** 2, np.cos(np.pi / 8) ** 2
    np.testing.assert_allclose(window, [low, high, 1, 1, high, low], rtol=1e-6)
    np.testing.assert_allclose(window[4:] + window[:2], 1, rtol=1e-6)
    np.testing.assert_array_equal(blend_window(3, 0), [1, 1, 1])


@settings(deadline=None)
@given(tile_px=st.integers(1, 300), share=st.floats(0, 0.5))
def test_the_window_is_above_0(tile_px: int, share: float) -> None:
    assert blend_window(tile_px, int(share * tile_px)).min() > 0


def test_two_tiles_are_blended_where_they_overlap() -> None:
    stitcher = Stitcher(Size(6, 4), channels=1, tile_px=4, overlap_px=2)
    stitcher.add(np.zeros((1, 4, 4), np.float32), x=0, y=0)
    stitcher.add(np.full((1, 4, 4), 8, np.float32), x=2, y=0)
    maps, covered = stitcher.finish(4)
    low, high = 8 * np.sin(np.pi / 8) ** 2, 8 * np.cos(np.pi / 8) ** 2
    np.testing.assert_allclose(maps[0], [[0, 0, low, high, 8, 8]] * 4, rtol=1e-5)
    assert covered.all()


def test_a_missing_tile_takes_no_part() -> None:
    stitcher = Stitcher(Size(6, 2), channels=1, tile_px=4, overlap_px=1)
    stitcher.add(np.full((1, 4, 4), 5, np.float32), x=2, y=0)
    maps, covered = stitcher.finish(2)
    np.testing.assert_allclose(maps[0], [[0, 0, 5, 5, 5, 5]] * 2, rtol=1e-6)
    np.testing.assert_array_equal(covered, [[False, False, True, True, True, True]] * 2)


@settings(deadline=None)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    tile_px=st.integers(1, 24),
    share=st.floats(0, 0.5),
    value=st.floats(0, 1, width=32),
)
def test_constant_in_gives_constant_out(width: int, height: int, tile_px: int, share: float, value: float) -> None:
    grid = TileGrid(Size(width, height), tile_px=tile_px, overlap_px=int(share * tile_px))
    joined = stitch(grid, np.full((2, height, width), value, np.float32))
    assert joined.shape == (2, height, width)
    np.testing.assert_allclose(joined, value, rtol=0, atol=1e-6)


@settings(deadline=None)
@given(width=st.integers(1, 40), height=st.integers(1, 40), tile_px=st.integers(1, 16), share=st.floats(0, 0.5))
def test_tiles_of_one_map_give_that_map(width: int, height: int, tile_px: int, share: float) -> None:
    grid = TileGrid(Size(width, height), tile_px=tile_px, overlap_px=int(share * tile_px))
    whole = np.random.default_rng(width * 41 + height).random((3, height, width), np.float32)
    np.testing.assert_allclose(stitch(grid, whole), whole, rtol=0, atol=1e-6)


def test_a_tile_out_of_turn_is_refused() -> None:
    stitcher = Stitcher(Size(8, 8), channels=1, tile_px=4, overlap_px=0)
    maps = np.zeros((1, 4, 4), np.float32)
    with pytest.raises(ValueError, match="a tile at x 0, y 4: must begin in row 0, left of 8"):
        stitcher.add(maps, x=0, y=4)
    with pytest.raises(ValueError, match="a tile at x 8, y 0: must begin in row 0, left of 8"):
        stitcher.add(maps, x=8, y=0)
    stitcher.finish(4)
    with pytest.raises(ValueError, match="a tile at x 0, y 0: must begin in row 4"):
        stitcher.add(maps, x=0, y=0)


def test_maps_of_another_shape_are_refused() -> None:
    stitcher = Stitcher(Size(8, 8), channels=2, tile_px=4, overlap_px=0)
    with pytest.raises(ValueError, match=r"maps of shape \(1, 4, 4\): 2 maps of 4 px are wanted"):
        stitcher.add(np.zeros((1, 4, 4), np.float32), x=0, y=0)


@pytest.mark.parametrize("below", [0, 5, 9])
def test_rows_that_cannot_be_finished_are_refused(below: int) -> None:
    stitcher = Stitcher(Size(8, 3 if below == 5 else 8), channels=1, tile_px=4, overlap_px=0)
    with pytest.raises(ValueError, match=f"rows 0 to {below}: 1 to 4 rows can be finished at a time"):
        stitcher.finish(below)
