"""Maps of a slide on disk while a prediction is in progress."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
"""Template pixel of each map; the files are headerless rows."""
STRIP_PX = 2**21
"""Pixels read at once: wider maps have shorter strips."""


@dataclass(frozen=True)
class MapBand:
    """Finished part of all maps.

    Attributes:
        ids: (h, w) uint8 class ids, 255 for ignore.
        uncertainty: (h, w) float32 in nats, 0 where nothing was computed.
        confidence: (h, w) uint8, the probability of the pixel's class in 255ths; 0 only where nothing was computed.
        scores: (h, w) float32 of each further map, by name.
    """

    ids: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]
    confidence: NDArray[np.uint8]
    scores: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


class MapSpool:
    """The maps of one slide as raw files in a folder, one per map, and the number of finished rows.

    Args:
        folder: Folder of the files.
        size: Size of the maps.
        scores: Names of further float32 maps.
    """

    def __init__(self, folder: Path, *, size: Size, scores: Sequence[str] = ()) -> None:
        self.folder, self.size, self._scores = folder, size, tuple(scores)
        self._maps = {
            name: RawMap(folder / f"{name}.raw", width=size.width, like=np.empty((1, 1), dtype))
            for name, dtype in {**DTYPES, **dict.fromkeys(scores, DTYPES[UNCERTAINTY])}.items()
        }
        self._rows = folder / "rows.txt"

    @property
    def rows(self) -> int:
        """Number of finished rows from the top, safely on disk; 0 if the file that says so is missing or damaged."""
        try:
            rows = int(self._rows.read_bytes()[:20])
        except (OSError, ValueError):
            return 0
        complete = all(part.rows >= rows for part in self._maps.values())
        return rows if 0 <= rows <= self.size.height and complete else 0

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
        for name in self._scores:
            self._maps[name].write(band.scores[name], x=x, y=y)

    def finish(self, rows: int) -> None:
        """Record that the first ``rows`` rows are finished; they are on disk when this returns.

        Raises:
            OSError: If the disk is full.
        """
        for part in self._maps.values():
            part.sync()
        write_atomically(self._rows, str(rows))

    def strips(self, name: str) -> Iterator[NDArray[Any]]:
        """Yield a map from top to bottom, (h, W) each."""
        width, height = self.size.width, self.size.height
        rows = strip_rows(width)
        for top in range(0, height, rows):
            yield self.window(name, x=0, y=top, width=width, height=min(rows, height - top))

    def window(self, name: str, *, x: int, y: int, width: int, height: int) -> NDArray[Any]:
        """Read a part of a map, which must lie inside it.

        Args:
            name: ``IDS``, ``UNCERTAINTY``, ``CONFIDENCE`` or the name of a score.
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
    """Return the rows per strip: 256 for narrow maps, fewer for wide ones."""
    return max(1, min(256, STRIP_PX // width))
