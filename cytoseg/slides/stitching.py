"""Blending overlapping tiles into one map, with memory for one tile."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.geometry import Size


def blend_window(tile_px: int, overlap_px: int) -> NDArray[np.float32]:
    """Compute the blending weights of a tile along one direction.

    Args:
        tile_px: Length of the window.
        overlap_px: Pixels shared with a neighbour, at most half of ``tile_px``.

    Returns:
        (tile_px,) float32 above 0, 1 in the middle; a squared sine over the overlap, so that the windows of two
        neighbours add up to 1.
    """
    window = np.ones(tile_px)
    ramp = np.sin(np.pi / 2 * (np.arange(overlap_px) + 0.5) / overlap_px) ** 2
    window[:overlap_px] = ramp
    window[tile_px - overlap_px :] = ramp[::-1]
    return window.astype(np.float32)


@dataclass(frozen=True)
class Patch:
    """A finished part of the map, which no later tile changes.

    Attributes:
        x: Left edge.
        y: Upper edge.
        maps: (channels, h, w) float32, 0 where there was no tile.
        covered: (h, w) bool, True where there was one.
    """

    x: int
    y: int
    maps: NDArray[np.float32]
    covered: NDArray[np.bool_]


class Stitcher:
    """Accumulates tile maps row by row and returns the finished part after each tile.

    Where tiles overlap, a pixel is their mean weighted by ``blend_window``; skipped tiles do not contribute. Unfinished
    rows wait in a file for the next row of tiles, so memory does not grow with the width.

    Args:
        size: Size of the whole map in pixels.
        channels: Number of maps per tile.
        tile_px: Side of a tile.
        overlap_px: Pixels that neighbours share, at most half a tile.
        waiting: Scratch file, overwritten; 4 x (channels + 1) x tile_px x width bytes.
    """

    def __init__(self, size: Size, *, channels: int, tile_px: int, overlap_px: int, waiting: Path) -> None:
        window = blend_window(tile_px, overlap_px)
        self._size, self._tile_px = size, tile_px
        self._window = np.outer(window, window)
        # The last channel accumulates the weights. Columns come first in the file, so that each is contiguous.
        self._sums = np.zeros((channels + 1, tile_px, tile_px), np.float32)
        self._column_bytes = self._sums[:, :, 0].nbytes
        self._waiting = waiting
        waiting.write_bytes(b"")
        self._y = self._below = self._x = 0

    def begin_row(self, y: int, *, below: int) -> None:
        """Begin a row of tiles.

        Args:
            y: Its upper edge; for all but the first row, ``below`` of the previous row.
            below: Upper edge of the next row, or the height of the whole after the last.

        Raises:
            ValueError: If the row would finish no pixel rows, or more than a tile's height.
        """
        if not 0 < below - y <= self._tile_px or below > self._size.height:
            raise ValueError(f"rows {y} to {below}: 1 to {self._tile_px} rows can be finished at a time.")
        self._y, self._below, self._x = y, below, 0
        self._sums[:] = 0
        self._load(0, min(self._tile_px, self._size.width), at=0)

    def add(self, maps: NDArray[np.float32] | None, *, right: int) -> Patch:
        """Add the next tile of the row; the part beyond the right or lower edge is cropped.

        Args:
            maps: (channels, tile_px, tile_px) float32, or None for a skipped tile.
            right: Left edge of the next tile, or the width of the whole after the last.

        Returns:
            The finished rows of the columns from the tile's left edge to ``right``.

        Raises:
            ValueError: If the maps have the wrong shape, or no column or more than a tile's width would be finished.
        """
        columns, x = right - self._x, self._x
        if not 0 < columns <= self._tile_px or right > self._size.width:
            raise ValueError(f"columns {x} to {right}: 1 to {self._tile_px} columns can be finished at a time.")
        if maps is not None:
            if maps.shape != (len(self._sums) - 1, *self._window.shape):
                raise ValueError(
                    f"maps of shape {maps.shape}: {len(self._sums) - 1} maps of {self._tile_px} px are wanted."
                )
            self._sums[:-1] += maps * self._window
            self._sums[-1] += self._window
        patch = self._finished(columns)
        self._hand_down(x, columns)
        self._sums[:, :, : self._tile_px - columns] = self._sums[:, :, columns:]
        self._sums[:, :, self._tile_px - columns :] = 0
        self._x = right
        beyond = min(right + self._tile_px, self._size.width)
        self._load(x + self._tile_px, beyond, at=self._tile_px - columns)
        return patch

    def _finished(self, columns: int) -> Patch:
        part = self._sums[:, : self._below - self._y, :columns]
        covered = part[-1] > 0
        maps = np.zeros((len(part) - 1, *covered.shape), np.float32)
        np.divide(part[:-1], part[-1], out=maps, where=covered)
        return Patch(self._x, self._y, maps, covered)

    def _hand_down(self, x: int, columns: int) -> None:
        """Store the unfinished rows of some columns, shifted to their position in the next row of tiles."""
        finished = self._below - self._y
        moved = np.zeros((columns, *self._sums.shape[:2]), np.float32)
        moved[:, :, : self._tile_px - finished] = self._sums[:, finished:, :columns].transpose(2, 0, 1)
        with self._waiting.open("r+b") as file:
            file.seek(x * self._column_bytes)
            file.write(moved.data)

    def _load(self, first: int, beyond: int, *, at: int) -> None:
        """Load unfinished columns ``first`` to ``beyond`` of the previous row into the sums at column ``at``.

        In the first row of tiles the file ends before these columns, so nothing is added.
        """
        if first >= beyond:
            return
        with self._waiting.open("rb") as file:
            file.seek(first * self._column_bytes)
            data = file.read((beyond - first) * self._column_bytes)
        columns = np.frombuffer(data, np.float32).reshape(-1, *self._sums.shape[:2])
        self._sums[:, :, at : at + len(columns)] = columns.transpose(1, 2, 0)
