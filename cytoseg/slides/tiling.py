"""The grid of overlapping tiles for prediction."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from cytoseg.geometry import Region, Size


@dataclass(frozen=True)
class Tile:
    """One tile of the grid.

    Attributes:
        x: Left edge in pixels of the class map.
        y: Upper edge in pixels of the class map.
        region: The same area on the slide, in level-0 pixels.
    """

    x: int
    y: int
    region: Region


@dataclass(frozen=True)
class TileGrid:
    """Overlapping tiles of one size that cover a whole slide.

    Tiles at the right and lower edge are shifted inside, so that every tile is filled. Only a slide smaller than a tile
    gets a tile that extends beyond its edge.

    Attributes:
        slide_size: Size of level 0.
        tile_px: Side of a tile in pixels of the class map.
        overlap_px: Pixels of the class map that neighbours share, at most half a tile.
        downsample: How many level-0 pixels one pixel of the class map spans.

    Raises:
        ValueError: If the overlap is negative or more than half a tile, or a size is not positive.
    """

    slide_size: Size
    tile_px: int
    overlap_px: int
    downsample: float = 1.0

    def __post_init__(self) -> None:
        if self.tile_px < 1 or self.downsample <= 0:
            raise ValueError(f"tiles of {self.tile_px} px at downsample {self.downsample}: both must be positive.")
        if self.overlap_px < 0 or 2 * self.overlap_px > self.tile_px:
            raise ValueError(f"overlap of {self.overlap_px} px: must be 0 to half a tile ({self.tile_px} px).")

    @property
    def size(self) -> Size:
        """Size of the class map; a fractional last pixel is dropped, because it would be partly white."""
        return Size(_whole(self.slide_size.width / self.downsample), _whole(self.slide_size.height / self.downsample))

    @property
    def area(self) -> Region:
        """The part of the slide covered by the class map, in level-0 pixels."""
        return Region(0, 0, round(self.size.width * self.downsample), round(self.size.height * self.downsample))

    def __len__(self) -> int:
        return len(self._starts(self.size.width)) * len(self._starts(self.size.height))

    def rows(self) -> Iterator[list[Tile]]:
        """Return the tiles row by row from top to bottom, each row from left to right."""
        columns = self._starts(self.size.width)
        for y in self._starts(self.size.height):
            yield [Tile(x, y, self._region(x, y)) for x in columns]

    def _starts(self, length: int) -> list[int]:
        last = max(0, length - self.tile_px)
        return [*range(0, last, self.tile_px - self.overlap_px), last]

    def _region(self, x: int, y: int) -> Region:
        side = max(1, round(self.tile_px * self.downsample))
        # Rounding may put the last tile one pixel beyond the edge, where the slide is white.
        inside_x, inside_y = max(0, self.slide_size.width - side), max(0, self.slide_size.height - side)
        return Region(min(round(x * self.downsample), inside_x), min(round(y * self.downsample), inside_y), side, side)


def _whole(pixels: float) -> int:
    # Tolerance of a millionth: results such as 300 / 0.1 * 0.3 fall just short of an integer.
    return max(1, math.floor(pixels + 1e-6))
