import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytoseg.geometry import Region, Size
from cytoseg.slides.tiling import Tile, TileGrid


def test_tiles_overlap_and_the_last_ones_are_moved_inside() -> None:
    grid = TileGrid(Size(10, 7), tile_px=4, overlap_px=1)
    rows = list(grid.rows())
    assert [[tile.x for tile in row] for row in rows] == [[0, 3, 6]] * 2
    assert [row[0].y for row in rows] == [0, 3]
    assert rows[1][2] == Tile(6, 3, Region(6, 3, 4, 4))
    assert len(grid) == 6

    moved = [tile.x for tile in next(TileGrid(Size(9, 4), tile_px=4, overlap_px=1).rows())]
    assert moved == [0, 3, 5]


def test_a_slide_as_large_as_a_tile_needs_one() -> None:
    grid = TileGrid(Size(4, 4), tile_px=4, overlap_px=2)
    assert list(grid.rows()) == [[Tile(0, 0, Region(0, 0, 4, 4))]]


def test_a_slide_smaller_than_a_tile_gets_one_that_reaches_over_the_edge() -> None:
    grid = TileGrid(Size(3, 9), tile_px=4, overlap_px=0)
    assert [row[0].region for row in grid.rows()] == [Region(0, y, 4, 4) for y in (0, 4, 5)]
    assert grid.size == Size(3, 9)


def test_regions_are_in_level_0_pixels() -> None:
    grid = TileGrid(Size(20, 8), tile_px=4, overlap_px=0, downsample=2.0)
    assert grid.size == Size(10, 4)
    assert [(t.x, t.region) for t in next(grid.rows())] == [
        (0, Region(0, 0, 8, 8)),
        (4, Region(8, 0, 8, 8)),
        (6, Region(12, 0, 8, 8)),
    ]


def test_a_last_fraction_of_a_pixel_is_left_out() -> None:
    grid = TileGrid(Size(101, 1), tile_px=4, overlap_px=0, downsample=2.0)
    assert grid.size == Size(50, 1)
    assert grid.area == Region(0, 0, 100, 2)
    # 0.3 / 0.1 is a little below 3 in floating point, 100 pixels are meant all the same.
    assert TileGrid(Size(300, 300), tile_px=4, overlap_px=0, downsample=0.3 / 0.1).size == Size(100, 100)
    assert TileGrid(Size(100, 100), tile_px=4, overlap_px=0, downsample=0.1 / 0.3).size == Size(300, 300)


@settings(deadline=None)
@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    tile_px=st.integers(4, 40),
    share=st.floats(0, 0.5),
    downsample=st.floats(0.3, 5),
)
def test_every_pixel_is_covered_and_whole_tiles_stay_on_the_slide(
    width: int, height: int, tile_px: int, share: float, downsample: float
) -> None:
    slide = Size(width, height)
    grid = TileGrid(slide, tile_px=tile_px, overlap_px=int(share * tile_px), downsample=downsample)
    rows = list(grid.rows())
    assert sum(len(row) for row in rows) == len(grid)
    covered = {x for tile in rows[0] for x in range(tile.x, tile.x + tile_px)}
    assert covered >= set(range(grid.size.width))
    assert {y for row in rows for y in range(row[0].y, row[0].y + tile_px)} >= set(range(grid.size.height))
    for tile in (tile for row in rows for tile in row):
        assert tile.region.x >= 0
        assert tile.region.y >= 0
        if grid.size.width >= tile_px:
            assert tile.x + tile_px <= grid.size.width
            assert tile.region.x + tile.region.width <= width
        # Where it is read is where it is drawn, but for rounding: half a pixel, and one more at the edge.
        assert abs(tile.region.x - tile.x * downsample) <= 1.5


@pytest.mark.parametrize("overlap_px", [-1, 3])
def test_an_impossible_overlap_is_refused(overlap_px: int) -> None:
    with pytest.raises(ValueError, match=f"overlap of {overlap_px} px: must be 0 to half a tile"):
        TileGrid(Size(9, 9), tile_px=4, overlap_px=overlap_px)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"tiles of 0 px at downsample 1\.0: both must be positive"):
        TileGrid(Size(9, 9), tile_px=0, overlap_px=0)
    with pytest.raises(ValueError, match="tiles of 4 px at downsample 0: both must be positive"):
        TileGrid(Size(9, 9), tile_px=4, overlap_px=0, downsample=0)
