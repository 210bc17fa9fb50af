"""The maps of a slide on disk while they are made: rows of pixels are appended, and windows are read back."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    """Some finished rows of all maps.

    Attributes:
        ids: (h, W) uint8 class ids, 255 for ignore.
        uncertainty: (h, W) float32 in nats, 0 where nothing was computed.
        confidence: (h, W) uint8, the probability of the pixel's class in 255ths; 0 where nothing was computed, and
            only there.
    """

    ids: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]
    confidence: NDArray[np.uint8]


class MapSpool:
    """The maps of one slide as plain files in a folder, one per map.

    They are read with ordinary calls and not through memory maps, whose pages would count as memory of this process.

    Args:
        folder: Where the files lie or come into being.
        width: W, pixels of a row.
    """

    def __init__(self, folder: Path, *, width: int) -> None:
        self.width = width
        self._paths = {name: folder / f"{name}.raw" for name in DTYPES}

    @property
    def rows(self) -> int:
        """Rows that all maps hold."""
        return min(self._rows_of(name) for name in DTYPES)

    def append(self, band: MapBand) -> None:
        """Add rows at the bottom; they are on disk when this returns.

        Raises:
            OSError: If the disk is full.
        """
        for name, values in ((IDS, band.ids), (UNCERTAINTY, band.uncertainty), (CONFIDENCE, band.confidence)):
            with self._paths[name].open("ab") as file:
                # Not tofile(), which hides the reason of a failure.
                file.write(np.ascontiguousarray(values, DTYPES[name]).data)
                file.flush()
                os.fsync(file.fileno())

    def cut(self, rows: int) -> None:
        """Take away what lies below the first ``rows`` rows, such as half a row that a kill has left.

        Raises:
            ValueError: If a map holds fewer.
        """
        for name, path in self._paths.items():
            if self._rows_of(name) < rows:
                raise ValueError(f"{path}: holds {self._rows_of(name)} rows, fewer than {rows}")
            if path.exists():
                os.truncate(path, rows * self._row_bytes(name))

    def strips(self, name: str) -> Iterator[NDArray[Any]]:
        """Give a map from top to bottom, (h, W) each, 256 rows at a time."""
        for top in range(0, self._rows_of(name), STRIP_ROWS):
            yield self.window(name, x=0, y=top, width=self.width, height=min(STRIP_ROWS, self._rows_of(name) - top))

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
        pieces = [(y, height)] if width == self.width else [(row, 1) for row in range(y, y + height)]
        data = bytearray()
        with self._paths[name].open("rb", buffering=0) as file:
            for row, count in pieces:
                file.seek(row * row_bytes + x * dtype.itemsize)
                data += file.read(count * width * dtype.itemsize)
        return np.frombuffer(data, dtype).reshape(height, width)

    def remove(self) -> None:
        """Delete the files."""
        for path in self._paths.values():
            path.unlink(missing_ok=True)

    def _row_bytes(self, name: str) -> int:
        return self.width * DTYPES[name].itemsize

    def _rows_of(self, name: str) -> int:
        path = self._paths[name]
        return path.stat().st_size // self._row_bytes(name) if path.exists() else 0
