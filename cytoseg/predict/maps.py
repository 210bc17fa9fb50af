"""The maps of a slide on disk while they are made: parts are written as they are finished, and read back."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.geometry import Size
from cytoseg.writing import write_atomically

IDS, UNCERTAINTY, CONFIDENCE = "ids", "uncertainty", "confidence"
DTYPES: Mapping[str, "np.dtype[Any]"] = {
    IDS: np.dtype(np.uint8),
    UNCERTAINTY: np.dtype(np.float32),
    CONFIDENCE: np.dtype(np.uint8),
}
"""What a pixel of each map is; a file holds nothing but its rows."""
STRIP_ROWS = 256


@dataclass(frozen=True)
class MapBand:
    """A finished part of all maps.

    Attributes:
        ids: (h, w) uint8 class ids, 255 for ignore.
        uncertainty: (h, w) float32 in nats, 0 where nothing was computed.
        confidence: (h, w) uint8, the probability of the pixel's class in 255ths; 0 where nothing was computed, and
            only there.
    """

    ids: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]
    confidence: NDArray[np.uint8]


class MapSpool:
    """The maps of one slide as plain files in a folder, one per map, and how many of their rows are finished.

    They are read with ordinary calls and not through memory maps, whose pages would count as memory of this process.

    Args:
        folder: Where the files lie or come into being.
        size: Of the maps.
    """

    def __init__(self, folder: Path, *, size: Size) -> None:
        self.folder, self.size = folder, size
        self._paths = {name: folder / f"{name}.raw" for name in DTYPES}
        self._rows = folder / "rows.txt"

    @property
    def rows(self) -> int:
        """Rows from the top that are finished, and stay so whatever happens."""
        return int(self._rows.read_text()) if self._rows.exists() else 0

    def write(self, band: MapBand, *, x: int, y: int) -> None:
        """Write a part of the maps.

        Args:
            band: The part.
            x: Its left edge.
            y: Its upper edge.

        Raises:
            OSError: If the disk is full.
        """
        for name, values in ((IDS, band.ids), (UNCERTAINTY, band.uncertainty), (CONFIDENCE, band.confidence)):
            rows, itemsize = np.ascontiguousarray(values, DTYPES[name]), DTYPES[name].itemsize
            with self._opened(name) as file:
                for offset, row in enumerate(rows):
                    file.seek((y + offset) * self._row_bytes(name) + x * itemsize)
                    file.write(row.data)

    def finish(self, rows: int) -> None:
        """Note that the first ``rows`` rows are finished; they are on disk when this returns.

        Raises:
            OSError: If the disk is full.
        """
        for name in DTYPES:
            with self._opened(name) as file:
                os.fsync(file.fileno())
        write_atomically(self._rows, str(rows))

    def strips(self, name: str) -> Iterator[NDArray[Any]]:
        """Give a map from top to bottom, (h, W) each, 256 rows at a time."""
        width, height = self.size.width, self.size.height
        for top in range(0, height, STRIP_ROWS):
            yield self.window(name, x=0, y=top, width=width, height=min(STRIP_ROWS, height - top))

    def window(self, name: str, *, x: int, y: int, width: int, height: int) -> NDArray[Any]:
        """Read a part of a map; it must lie inside.

        Args:
            name: ``IDS``, ``UNCERTAINTY`` or ``CONFIDENCE``.
            x: Left edge.
            y: Upper edge.
            width: In pixels.
            height: In pixels.

        Returns:
            (height, width) of the map's dtype.
        """
        dtype, row_bytes = DTYPES[name], self._row_bytes(name)
        pieces = [(y, height)] if width == self.size.width else [(row, 1) for row in range(y, y + height)]
        found = np.empty((height, width), dtype)
        with self._paths[name].open("rb", buffering=0) as file:
            for row, count in pieces:
                file.seek(row * row_bytes + x * dtype.itemsize)
                # Into the array itself: strips of wide slides are large, and need not be there twice.
                file.readinto(found[row - y : row - y + count].data)
        return found

    def remove(self) -> None:
        """Delete the files."""
        for path in (*self._paths.values(), self._rows):
            path.unlink(missing_ok=True)

    def _row_bytes(self, name: str) -> int:
        return self.size.width * DTYPES[name].itemsize

    def _opened(self, name: str) -> FileIO:
        self._paths[name].touch()
        return self._paths[name].open("r+b", buffering=0)
