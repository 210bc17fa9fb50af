"""Blending the maps of overlapping tiles into one, in memory for one row of tiles."""

import numpy as np
from numpy.typing import NDArray

from cytoseg.geometry import Size


def blend_window(tile_px: int, overlap_px: int) -> NDArray[np.float32]:
    """Weigh the pixels of a tile along one direction.

    Args:
        tile_px: Length of the window.
        overlap_px: Pixels shared with a neighbour, at most half of ``tile_px``.

    Returns:
        (tile_px,) float32 above 0, 1 in the middle; a squared sine rises over the overlap, so that the windows of two
        neighbours add up to 1.
    """
    window = np.ones(tile_px)
    ramp = np.sin(np.pi / 2 * (np.arange(overlap_px) + 0.5) / max(1, overlap_px)) ** 2
    window[:overlap_px] = ramp
    window[tile_px - overlap_px :] = ramp[::-1]
    return window.astype(np.float32)


class Stitcher:
    """Takes the maps of tiles row by row and gives back finished rows of the whole.

    Where tiles overlap, a pixel is their mean weighted by ``blend_window``; a tile left out takes no part. Memory is
    that of a band of ``channels`` maps, as high as a tile and as wide as the slide.

    Args:
        size: Of the whole map in pixels.
        channels: Number of maps per tile.
        tile_px: Side of a tile.
        overlap_px: Pixels that neighbours share, at most half a tile.
        top: The first row that is wanted, with which a row of tiles begins.
    """

    def __init__(self, size: Size, *, channels: int, tile_px: int, overlap_px: int, top: int = 0) -> None:
        window = blend_window(tile_px, overlap_px)
        self._size, self._tile_px = size, tile_px
        self._window = np.outer(window, window)
        self._sums = np.zeros((channels, tile_px, size.width), np.float32)
        self._weights = np.zeros((tile_px, size.width), np.float32)
        self.top = top
        """The first row that has not been given back, and may still change."""

    def add(self, maps: NDArray[np.float32], *, x: int, y: int) -> None:
        """Add one tile; what reaches over the right or lower edge is cut off.

        Args:
            maps: (channels, tile_px, tile_px) float32.
            x: Left edge of the tile.
            y: Upper edge of the tile, the same for a whole row of tiles: that of ``top``.

        Raises:
            ValueError: If the tile does not begin at ``top`` or lies beside the map, or the maps have another shape.
        """
        if y != self.top or not 0 <= x < self._size.width:
            raise ValueError(f"a tile at x {x}, y {y}: must begin in row {self.top}, left of {self._size.width}.")
        if maps.shape != (len(self._sums), self._tile_px, self._tile_px):
            raise ValueError(f"maps of shape {maps.shape}: {len(self._sums)} maps of {self._tile_px} px are wanted.")
        width = min(self._tile_px, self._size.width - x)
        window = self._window[:, :width]
        self._sums[:, :, x : x + width] += maps[:, :, :width] * window
        self._weights[:, x : x + width] += window

    def finish(self, below: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Give back the rows from ``top`` to ``below``, and make ``below`` the new ``top``.

        Args:
            below: Upper edge of the next row of tiles, or the height of the map after the last row.

        Returns:
            (channels, rows, width) float32, 0 where there was no tile; and (rows, width) bool, True where there was.

        Raises:
            ValueError: If there would be no row, or more than a tile's height.
        """
        rows = below - self.top
        if not 0 < rows <= self._tile_px or below > self._size.height:
            raise ValueError(f"rows {self.top} to {below}: 1 to {self._tile_px} rows can be finished at a time.")
        weights = self._weights[:rows]
        covered = weights > 0
        finished = np.zeros((len(self._sums), *weights.shape), np.float32)
        np.divide(self._sums[:, :rows], weights, out=finished, where=covered)
        for plane in (*self._sums, self._weights):
            plane[: self._tile_px - rows] = plane[rows:]
            plane[self._tile_px - rows :] = 0
        self.top = below
        return finished, covered
