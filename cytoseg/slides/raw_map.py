"""Pixels of any width and height in a plain file: parts are written, and read back, at any place."""

import os
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class RawMap:
    """A file that holds nothing but rows of pixels.

    It is read with ordinary calls and not through a memory map, whose pages would count as memory of this process.

    Args:
        path: The file; it comes into being with the first part.
        width: Of a row in pixels.
        like: Any pixel of its kind, (1, 1) or (1, 1, 3).
    """

    def __init__(self, path: Path, *, width: int, like: NDArray[Any]) -> None:
        self.path, self.width = path, width
        self._shape, self._dtype, self._pixel_bytes = like.shape[2:], like.dtype, like.nbytes

    def write(self, pixels: NDArray[Any], *, x: int, y: int) -> None:
        """Write a part, (h, w) or (h, w, 3), of which every pixel must lie inside.

        Args:
            pixels: The part; converted to the file's kind of number.
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
        """Read a part; it must lie inside of what was written.

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
                # Into the array itself: parts of wide slides are large, and need not be there twice.
                file.readinto(part.data)
        return found

    def sync(self) -> None:
        """See that all that was written is on the disk.

        Raises:
            OSError: If the disk is full.
        """
        with self._opened() as file:
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Delete the file, if there is one."""
        self.path.unlink(missing_ok=True)

    def _place(self, x: int, y: int) -> int:
        return (y * self.width + x) * self._pixel_bytes

    def _opened(self) -> FileIO:
        self.path.touch()
        return self.path.open("r+b", buffering=0)


def _pieces(rows: NDArray[Any], *, whole: bool) -> list[tuple[int, NDArray[Any]]]:
    """Return what lies in one piece in the file, and the row it begins at: everything, or each row by itself."""
    if not rows.size:
        return []
    return [(0, rows)] if whole else list(enumerate(rows))


def _write_all(file: FileIO, data: memoryview) -> None:
    """Write everything, however many calls it takes: one that meets the end of the disk writes a part."""
    while data:
        data = data[file.write(data) :]
