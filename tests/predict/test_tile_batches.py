from cytoseg.geometry import Size
from cytoseg.predict.tile_batches import TilePlace, count_tiles_left, tile_batches
from cytoseg.slides.tiling import Tile, TileGrid

# Tiles of 8 px that share 2: at 0, 6, 12 across and at 0, 6, 7 down.
GRID = TileGrid(Size(20, 15), 8, 2)
_CORNERS = [[(0, 0), (6, 0), (12, 0)], [(0, 6), (6, 6), (12, 6)], [(0, 7), (6, 7), (12, 7)]]


def _tissue(_: Tile) -> bool:
    return True


def _corners(top: int, batch: int) -> list[list[tuple[int, int]]]:
    batches = tile_batches(GRID, top=top, batch=batch, shows_tissue=_tissue)
    return [[(place.tile.x, place.tile.y) for place in places] for places in batches]


def test_a_batch_never_reaches_into_the_next_row() -> None:
    assert _corners(top=0, batch=50) == _CORNERS
    assert _corners(top=0, batch=2) == [part for row in _CORNERS for part in (row[:2], row[2:])]
    assert _corners(top=0, batch=1) == [[corner] for row in _CORNERS for corner in row]


def test_a_place_says_what_is_finished_when_its_tile_is_added() -> None:
    first, second, last = tile_batches(GRID, top=0, batch=3, shows_tissue=_tissue)
    assert [(place.right, place.below) for place in first] == [(6, 6), (12, 6), (20, 6)]
    assert [(place.right, place.below) for place in second] == [(6, 7), (12, 7), (20, 7)]
    assert [(place.right, place.below) for place in last] == [(6, 15), (12, 15), (20, 15)]
    assert [place.is_first_of_row for place in last] == [True, False, False]


def test_only_rows_that_show_something_below_the_finished_ones_are_left() -> None:
    """Tiles from 0 reach to 8, those from 6 to 14, so with 8 rows finished the first are not needed."""
    assert [_corners(top=top, batch=3) for top in (7, 8, 13, 14, 15)] == [
        _CORNERS,
        _CORNERS[1:],
        _CORNERS[1:],
        _CORNERS[2:],
        [],
    ]
    assert [count_tiles_left(GRID, top=top) for top in (0, 7, 8, 14, 15)] == [9, 9, 6, 3, 0]


def test_glass_takes_no_room_in_a_batch() -> None:
    def right_half(tile: Tile) -> bool:
        return tile.x >= 6

    first, second, *_ = tile_batches(GRID, top=0, batch=1, shows_tissue=right_half)
    assert [(place.tile.x, place.has_tissue) for place in first] == [(0, False), (6, True)]
    assert [(place.tile.x, place.has_tissue) for place in second] == [(12, True)]


def test_a_slide_smaller_than_a_tile_is_one_place() -> None:
    grid = TileGrid(Size(5, 3), 8, 2)
    (batch,) = tile_batches(grid, top=0, batch=4, shows_tissue=_tissue)
    (tile,) = next(grid.rows())
    assert list(batch) == [TilePlace(tile, True, right=5, below=3)]
