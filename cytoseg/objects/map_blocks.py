"""Reading windows of finished maps and slide pixels, cached in blocks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.geometry import Region, Size
from cytoseg.maps.map_spool import CONFIDENCE, IDS, UNCERTAINTY, MapSpool
from cytoseg.slides.open import read_at
from cytoseg.slides.slide import Slide

LINE_PX = 256
"""Line height for reading objects, each line from left to right."""

_BLOCK_PX = 1024
_MARGIN_PX = 256
"""Margin of a block, so that most objects that start in it are complete."""


@dataclass(frozen=True, eq=False)
class Window:
    """A rectangle of the maps.

    Attributes:
        ids: (h, w) uint8 class ids.
        uncertainty: (h, w) float32 in nats.
        confidence: (h, w) uint8 in 255ths.
        picture: (h, w, 3) uint8 RGB, the slide at the resolution of the maps.
    """

    ids: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]
    confidence: NDArray[np.uint8]
    picture: NDArray[np.uint8]

    def part(self, rows: slice, columns: slice) -> "Window":
        """Return a smaller window as a view."""
        at = (rows, columns)
        return Window(self.ids[at], self.uncertainty[at], self.confidence[at], self.picture[at])


class WindowReader:
    """Reads windows of finished maps and caches the last block.

    Args:
        spool: The maps.
        slide: The open slide.
        size: Size of the maps.
        downsample: Level-0 pixels that one pixel of the maps spans.
    """

    def __init__(self, spool: MapSpool, slide: Slide, *, size: Size, downsample: float) -> None:
        self._spool, self._slide, self._size, self._downsample = spool, slide, size, downsample
        self._place = Region(0, 0, 0, 0)
        self._block: Window | None = None

    def read(self, place: Region) -> Window:
        """Read a window.

        Args:
            place: In pixels of the maps; must lie inside.

        Raises:
            SlideError: If the slide is damaged there.
        """
        block = self._block_of(place)
        if not _contains(block, place):
            return self._read(place)
        if self._block is None or block != self._place:
            self._place, self._block = block, self._read(block)
        y, x = place.y - block.y, place.x - block.x
        return self._block.part(slice(y, y + place.height), slice(x, x + place.width))

    def _block_of(self, place: Region) -> Region:
        x, y = place.x // _BLOCK_PX * _BLOCK_PX, place.y // LINE_PX * LINE_PX
        width = min(_BLOCK_PX + _MARGIN_PX, self._size.width - x)
        return Region(x, y, width, min(LINE_PX + _MARGIN_PX, self._size.height - y))

    def _read(self, place: Region) -> Window:
        box: dict[str, Any] = {"x": place.x, "y": place.y, "width": place.width, "height": place.height}
        edges = (place.x, place.y, place.x + place.width, place.y + place.height)
        left, top, right, bottom = (round(edge * self._downsample) for edge in edges)
        region = Region(left, top, max(1, right - left), max(1, bottom - top))
        return Window(
            ids=self._spool.window(IDS, **box),
            uncertainty=self._spool.window(UNCERTAINTY, **box),
            confidence=self._spool.window(CONFIDENCE, **box),
            picture=read_at(self._slide, region, Size(place.width, place.height)),
        )


def _contains(outer: Region, inner: Region) -> bool:
    return inner.x + inner.width <= outer.x + outer.width and inner.y + inner.height <= outer.y + outer.height
