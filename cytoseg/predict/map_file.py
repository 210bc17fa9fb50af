"""A written map of a slide, ids or nats, read part by part."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import tifffile
from numpy.typing import NDArray

from cytoseg.errors import PredictionError, SlideError
from cytoseg.geometry import Size
from cytoseg.slides.tiff import DAMAGE, TileTable


class MapFile:
    """The finest level of a tiled map of one channel; `open_slide` reads pictures only, and these hold numbers.

    Args:
        path: As ``write_pyramid`` wrote it.

    Raises:
        PredictionError: If it is missing, damaged, or no such map.
    """

    def __init__(self, path: Path) -> None:
        self._name = f"{path.parent.name}/{path.name}"
        try:
            with tifffile.TiffFile(path) as tif:
                page: Any = tif.pages[0]
                if page.samplesperpixel != 1 or not page.is_tiled:
                    raise ValueError("no tiled map of one channel")
                self.size, self._dtype = Size(int(page.imagewidth), int(page.imagelength)), page.dtype
                self._tiles = TileTable(page, path)
        except (SlideError, *DAMAGE) as error:
            raise self._damaged(error) from error
        self._file = path.open("rb", buffering=0)

    def read(self, x: int, y: int, *, width: int, height: int, outside: int = 0) -> NDArray[Any]:
        """Read a part; only the tiles that it touches are decoded.

        Args:
            x: Left edge in the map's pixels.
            y: Upper edge.
            width: In pixels.
            height: In pixels.
            outside: Value beyond the edges of the map.

        Returns:
            (height, width) of the map's own dtype.

        Raises:
            PredictionError: If the file is damaged there.
        """
        found = np.full((height, width), outside, self._dtype)
        right, bottom = min(x + width, self.size.width), min(y + height, self.size.height)
        down, across = self._tiles.height, self._tiles.width
        for top in range(max(y, 0) // down * down, bottom, down):
            for left in range(max(x, 0) // across * across, right, across):
                tile = self._decoded(left, top)
                x0, y0, x1, y1 = max(left, x), max(top, y), min(left + across, right), min(top + down, bottom)
                found[y0 - y : y1 - y, x0 - x : x1 - x] = tile[y0 - top : y1 - top, x0 - left : x1 - left]
        return found

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _decoded(self, left: int, top: int) -> NDArray[Any]:
        try:
            tile = self._tiles.read(self._file.fileno(), left, top)
        except SlideError as error:
            raise self._damaged(error) from error
        return np.zeros((self._tiles.height, self._tiles.width), self._dtype) if tile is None else tile[..., 0]

    def _damaged(self, error: Exception) -> PredictionError:
        why = str(error).rstrip(".").removesuffix(". Copy the file again")
        return PredictionError(f"{self._name}: cannot be read ({why}). Predict the slide again.")
