"""A raw pixel file on disk with random access to rectangular parts."""

import os
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class RawMap:
    """A headerless file of pixel rows.

    It is read with ordinary calls, not a memory map, whose pages would count as memory of this process.

    Args:
        path: The file, created by the first write.
        width: Row width in pixels.
        like: Template pixel, (1, 1) or (1, 1, 3).
    """

    def __init__(self, path: Path, *, width: int, like: NDArray[Any]) -> None:
        self.path, self.width = path, width
        self._shape, self._dtype, self._pixel_bytes = like.shape[2:], like.dtype, like.nbytes

    def write(self, pixels: NDArray[Any], *, x: int, y: int) -> None:
        """Write a part, (h, w) or (h, w, 3), which must lie inside the map.

        Args:
            pixels: The part; converted to the file's dtype.
            x: Its left edge.
            y: Its upper edge.

        Raises:
            OSError: If the disk is full.
        """
        rows = np.ascontiguousarray(pixels, self._dtype)
        with self._opened() as file:
            for offset, part in _pieces(rows, whole=rows.shape[1] == self.width):
                file.seek(self._place(x, y + offset))
                _write_all(file, part.data.cast("B"))

    def window(self, *, x: int, y: int, width: int, height: int) -> NDArray[Any]:
        """Read a part, which must have been written.

        Args:
            x: Left edge.
            y: Upper edge.
            width: In pixels.
            height: In pixels.

        Returns:
            (height, width) or (height, width, 3).
        """
        found = np.empty((height, width, *self._shape), self._dtype)
        with self.path.open("rb", buffering=0) as file:
            for offset, part in _pieces(found, whole=width == self.width):
                file.seek(self._place(x, y + offset))
                # Read directly into the array: parts of wide slides are large.
                file.readinto(part.data)
        return found

    @property
    def rows(self) -> int:
        """Number of whole rows that the file has room for; 0 if it is missing."""
        return self.path.stat().st_size // self._place(0, 1) if self.path.is_file() else 0

    def sync(self) -> None:
        """Flush all writes to the disk.

        Raises:
            OSError: If the disk is full.
        """
        with self._opened() as file:
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Delete the file if it exists."""
        self.path.unlink(missing_ok=True)

    def _place(self, x: int, y: int) -> int:
        return (y * self.width + x) * self._pixel_bytes

    def _opened(self) -> FileIO:
        self.path.touch()
        return self.path.open("r+b", buffering=0)


def _pieces(rows: NDArray[Any], *, whole: bool) -> list[tuple[int, NDArray[Any]]]:
    """Yield contiguous pieces of the file with their first row: everything at once, or single rows."""
    if not rows.size:
        return []
    return [(0, rows)] if whole else list(enumerate(rows))


def _write_all(file: FileIO, data: memoryview) -> None:
    """Write everything; a single call may write only a part when the disk is full."""
    while data:
        data = data[file.write(data) :]
