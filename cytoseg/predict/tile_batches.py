"""Batches of the tiles of a slide that are still to be predicted."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cytoseg.slides.tiling import Tile, TileGrid


@dataclass(frozen=True)
class TilePlace:
    """A tile, and the part of the maps that it finishes.

    Attributes:
        tile: The tile.
        has_tissue: Whether it is computed; glass is skipped.
        right: Left edge of the next tile of the row, or the width of the maps after the last.
        below: Upper edge of the next row of tiles, or the height of the maps after the last.
    """

    tile: Tile
    has_tissue: bool
    right: int
    below: int

    @property
    def is_first_of_row(self) -> bool:
        """Whether it is the first of a row of tiles."""
        return self.tile.x == 0


def count_tiles_left(grid: TileGrid, *, top: int) -> int:
    """Count the tiles of ``tile_batches``, including glass."""
    return sum(len(row) for row, _ in _rows_left(grid, top))


def tile_batches(
    grid: TileGrid, *, top: int, batch: int, shows_tissue: Callable[[Tile], bool]
) -> Iterator[Sequence[TilePlace]]:
    """Group the tiles of each row into batches; glass does not count towards the batch size.

    Args:
        grid: Grid of the slide.
        top: Number of finished pixel rows. Rows of tiles that reach below are included, also if they start above,
            because they contribute to the rows below.
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
    """Yield the rows of tiles that reach below pixel row ``top``, each with the start of the next."""
    if top >= grid.size.height:
        return
    rows = grid.rows()
    row = next(rows)
    for following in rows:
        if row[0].y + grid.tile_px > top:
            yield row, following[0].y
        row = following
    yield row, grid.size.height
