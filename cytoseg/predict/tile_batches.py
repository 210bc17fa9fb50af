"""The tiles that a slide still lacks, row by row and in batches for the predictor."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cytoseg.slides.tiling import Tile, TileGrid


@dataclass(frozen=True)
class TilePlace:
    """A tile, and how far the maps are finished once it is added to them.

    Attributes:
        tile: The tile.
        has_tissue: Whether it is computed; glass is not.
        right: Left edge of the next tile of the row, or the width of the maps after the last.
        below: Upper edge of the next row of tiles, or the height of the maps after the last.
    """

    tile: Tile
    has_tissue: bool
    right: int
    below: int

    @property
    def is_first_of_row(self) -> bool:
        """Whether a row of tiles begins with it."""
        return self.tile.x == 0


def count_tiles_left(grid: TileGrid, *, top: int) -> int:
    """Count the tiles of ``tile_batches``, glass included."""
    return sum(len(row) for row, _ in _rows_left(grid, top))


def tile_batches(
    grid: TileGrid, *, top: int, batch: int, shows_tissue: Callable[[Tile], bool]
) -> Iterator[Sequence[TilePlace]]:
    """Put the tiles of each row together until a batch is full; glass takes no room in it.

    Args:
        grid: Of the slide.
        top: Rows of pixels that are finished. The rows of tiles that show anything below them are given, among them
            those that begin above, for what they add to the rows below.
        batch: Tiles with tissue that are computed together.
        shows_tissue: Whether a tile is to be computed.

    Yields:
        Neighbours in a row, from left to right; a batch never reaches into the next row.
    """
    for row, below in _rows_left(grid, top):
        places: list[TilePlace] = []
        rights = [*(tile.x for tile in row[1:]), grid.size.width]
        for tile, right in zip(row, rights, strict=True):
            places.append(TilePlace(tile, shows_tissue(tile), right, below))
            if sum(place.has_tissue for place in places) == batch:
                yield places
                places = []
        if places:
            yield places


def _rows_left(grid: TileGrid, top: int) -> Iterator[tuple[list[Tile], int]]:
    """Return the rows of tiles that show anything from row ``top`` of pixels on, each with where the next begins."""
    if top >= grid.size.height:
        return
    rows = grid.rows()
    row = next(rows)
    for following in rows:
        if row[0].y + grid.tile_px > top:
            yield row, following[0].y
        row = following
    yield row, grid.size.height
