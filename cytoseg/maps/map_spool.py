"""The maps of a slide on disk while they are made: parts are written as they are finished, and read back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.geometry import Size
from cytoseg.slides.raw_map import RawMap
from cytoseg.writing import write_atomically

IDS, UNCERTAINTY, CONFIDENCE = "ids", "uncertainty", "confidence"
DTYPES: Mapping[str, "np.dtype[Any]"] = {
    IDS: np.dtype(np.uint8),
    UNCERTAINTY: np.dtype(np.float32),
    CONFIDENCE: np.dtype(np.uint8),
}
"""What a pixel of each map is; a file holds nothing but its rows."""
STRIP_PX = 2**21
"""Pixels that are read at once: strips are lower the wider the maps are."""


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

    Args:
        folder: Where the files lie or come into being.
        size: Of the maps.
    """

    def __init__(self, folder: Path, *, size: Size) -> None:
        self.folder, self.size = folder, size
        self._maps = {
            name: RawMap(folder / f"{name}.raw", width=size.width, like=np.empty((1, 1), dtype))
            for name, dtype in DTYPES.items()
        }
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
            self._maps[name].write(values, x=x, y=y)

    def finish(self, rows: int) -> None:
        """Note that the first ``rows`` rows are finished; they are on disk when this returns.

        Raises:
            OSError: If the disk is full.
        """
        for part in self._maps.values():
            part.sync()
        write_atomically(self._rows, str(rows))

    def strips(self, name: str) -> Iterator[NDArray[Any]]:
        """Return a map from top to bottom, (h, W) each."""
        width, height = self.size.width, self.size.height
        rows = strip_rows(width)
        for top in range(0, height, rows):
            yield self.window(name, x=0, y=top, width=width, height=min(rows, height - top))

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
        return self._maps[name].window(x=x, y=y, width=width, height=height)

    def remove(self) -> None:
        """Delete the files."""
        for part in self._maps.values():
            part.remove()
        self._rows.unlink(missing_ok=True)


def strip_rows(width: int) -> int:
    """Say how many rows of a map are taken at once: 256 of narrow ones, fewer of wide ones."""
    return max(1, min(256, STRIP_PX // width))
