"""API: opening slides and reading regions."""

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cytoseg.api.arguments import as_path
from cytoseg.errors import SlideError
from cytoseg.geometry import Level, Region, Size
from cytoseg.limits import how_to_raise, limit
from cytoseg.quoting import short_repr
from cytoseg.slides import open as slides
from cytoseg.slides.slide import Slide as Reader

_LIMIT = "CYTOSEG_MAX_PICTURE_PX"


class Slide:
    """An open slide of any supported format; a context manager.

    Args:
        reader: The reader of the file's format.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader, self._is_closed = reader, False

    def __repr__(self) -> str:
        size = f"{self.size.width}x{self.size.height}"
        return f"Slide({str(self.path)!r}, size={size}, levels={len(self.levels)}, mpp={self.mpp})"

    @property
    def path(self) -> Path:
        """The file."""
        return self._reader.path

    @property
    def size(self) -> Size:
        """Width and height of level 0 in pixels."""
        return self._reader.levels[0].size

    @property
    def levels(self) -> Sequence[Level]:
        """Resolutions, finest first."""
        return self._reader.levels

    @property
    def mpp(self) -> float | None:
        """Micrometres per level-0 pixel, or None if the file does not state it."""
        return self._reader.mpp

    def read(
        self, region: Region | tuple[int, int, int, int], size: Size | tuple[int, int] | None = None
    ) -> NDArray[np.uint8]:
        """Read a region at any size.

        Args:
            region: ``(x, y, width, height)`` in level-0 pixels; outside the slide it is white.
            size: ``(width, height)`` of the result in pixels; None takes that of the region, without resampling.

        Returns:
            (height, width, 3) uint8 RGB.

        Raises:
            SlideError: If the slide is closed, a side is not positive, the result has too many pixels, or the file is
                damaged there.
        """
        if self._is_closed:
            raise SlideError(f"{self.path.name}: is closed. Open it again.")
        x, y, width, height = _whole(region, 4, "region (x, y, width, height)")
        out = (width, height) if size is None else _whole(size, 2, "size (width, height)")
        if min(width, height, *out) < 1:
            raise SlideError(f"{self.path.name}: region {width} x {height} px at {out[0]} x {out[1]}: nothing to read.")
        if out[0] * out[1] > limit(_LIMIT):
            raise SlideError(
                f"{self.path.name}: {out[0]} x {out[1]} px is too large for one array. Pass a smaller size, or read it "
                f"in parts. {how_to_raise(_LIMIT)}"
            )
        try:
            return slides.read_at(self._reader, Region(x, y, width, height), Size(*out))
        except MemoryError as error:
            raise SlideError(
                f"{self.path.name}: region {width} x {height} px does not fit in memory. Read it in parts."
            ) from error

    def close(self) -> None:
        """Close the file; it cannot be read any more."""
        self._is_closed = True
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_slide(path: str | PathLike[str]) -> Slide:
    """Open a slide or image; the reader is chosen by its content.

    Args:
        path: A tiled TIFF, SVS, OME-TIFF, PNG, JPEG, or a format that needs an extra (``openslide``, ``zarr``).

    Raises:
        SlideError: If the file is missing, empty, damaged or not supported.
    """
    return Slide(slides.open_slide(as_path(path, error=SlideError)))


def _whole(value: object, count: int, what: str) -> tuple[int, ...]:
    if isinstance(value, Region | Size):
        value = astuple(value)
    numbers = list(value) if isinstance(value, Iterable) else []
    if len(numbers) != count or not all(isinstance(number, int | np.integer) for number in numbers):
        raise SlideError(f"{what}: found {short_repr(value)}, but {count} whole numbers are wanted.")
    return tuple(int(number) for number in numbers)
