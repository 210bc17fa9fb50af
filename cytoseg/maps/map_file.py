"""Reading parts of a written map (class ids or nats)."""

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cytoseg.errors import PredictionError, SlideError
from cytoseg.maps.raster import Raster


class MapFile:
    """The finest level of a tiled single-channel map, which `open_slide` does not read.

    Args:
        path: A file from ``write_pyramid``.
        ids: Whether it must hold ids.

    Raises:
        PredictionError: If it is missing, damaged or not such a map.
    """

    def __init__(self, path: Path, *, ids: bool = False) -> None:
        self._name = f"{path.parent.name}/{path.name}"
        try:
            self._raster = Raster(path, ids=ids)
        except SlideError as error:
            raise self._damaged(error) from error
        self.size = self._raster.levels[0].size

    def read(self, x: int, y: int, *, width: int, height: int, outside: int = 0) -> NDArray[Any]:
        """Read a part, decoding only the tiles it touches.

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
        found = np.full((height, width), outside, self._raster.dtype)
        rows = np.arange(max(y, 0), min(y + height, self.size.height))
        columns = np.arange(max(x, 0), min(x + width, self.size.width))
        if rows.size and columns.size:
            try:
                found[np.ix_(rows - y, columns - x)] = self._raster.sample(rows, columns)
            except SlideError as error:
                raise self._damaged(error) from error
        return found

    def close(self) -> None:
        """Close the file."""
        self._raster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _damaged(self, error: Exception) -> PredictionError:
        why = str(error).rstrip(".").removesuffix(". Copy the file again").removesuffix(". Predict the slide again")
        return PredictionError(f"{self._name}: cannot be read ({why}). Predict the slide again.")
