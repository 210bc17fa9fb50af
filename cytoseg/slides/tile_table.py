"""Offsets of the tiles of a TIFF page, and decoding them."""

import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.slides.declared_size import refuse_bomb, refuse_large_tiles
from cytoseg.slides.jpeg_end import is_cut_off
from cytoseg.slides.parser_errors import DAMAGE

_LEAST_OFFSET = 8
"""First byte behind the header, where data may lie."""

_UNCOMPRESSED, _SEPARATE = 1, 2  # values of Compression and PlanarConfiguration
_TILE_TAGS = (273, 279, 324, 325)  # offsets and lengths of tiles or strips
_POSITION = threading.Lock()


class TileTable:
    """Offsets of the tiles of one page, and how to decode them.

    Args:
        page: A tiled tifffile.TiffPage of any sample type; its own tile offsets are dropped.
        path: Its file.

    Attributes:
        missing: Describes the tiles beyond the end of the file; empty if there are none.

    Raises:
        SlideError: If the page lists too few tiles.
        ValueError: If its tiles are too large.
    """

    def __init__(self, page: Any, path: Path) -> None:
        self._path = path
        refuse_large_tiles(page)
        self.width, self.height = int(page.tilewidth), int(page.tilelength)
        self._columns = math.ceil(page.imagewidth / self.width)
        self._planes = int(page.samplesperpixel) if page.planarconfig != 1 else 1
        self._per_plane = self._columns * math.ceil(page.imagelength / self.height)
        self._offsets = np.asarray(page.dataoffsets, np.int64)
        self._counts = np.asarray(page.databytecounts, np.int64)
        _forget_tiles(page)
        self._decode, self._tables = page.decode, {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        expected = self._per_plane * self._planes
        if len(self._offsets) != expected or len(self._counts) != expected:
            raise SlideError(
                f"{path.name}: lists {len(self._offsets)} tiles where {expected} are needed. Copy it again."
            )
        beyond = np.flatnonzero(self._offsets + self._counts > path.stat().st_size)
        self.missing = ""
        if len(beyond):
            are = f"{len(beyond)} of {expected} tiles"
            self.missing = f"{are} lie beyond the end of the file; the first is tile {beyond[0]}"

    def read(self, descriptor: int, x: int, y: int) -> NDArray[Any] | None:
        """Decode the tile with corner (x, y) to (H, W, S); None for a sparse tile.

        Raises:
            SlideError: If it is damaged, lies beyond the end of the file, or cannot be read from disk.
        """
        first = y // self.height * self._columns + x // self.width
        planes = []
        for index in range(first, first + self._planes * self._per_plane, self._per_plane):
            count, offset = int(self._counts[index]), int(self._offsets[index])
            if not count:
                return None
            tile = f"tile {index} at x {x}, y {y}"
            if offset < _LEAST_OFFSET:
                raise SlideError(f"{self._path.name}: {tile} is damaged (it has no place in the file). Copy it again.")
            try:
                data = _read_at(descriptor, count, offset)
            except DAMAGE as error:
                # An OSError would be mistaken for one of the output disk.
                raise SlideError(
                    f"{self._path.name}: {tile} cannot be read ({error}). Check its disk, or copy the file again."
                ) from error
            if len(data) < count:
                raise SlideError(f"{self._path.name}: truncated, {tile} is cut off. Copy the file again.")
            if is_cut_off(data):
                raise SlideError(f"{self._path.name}: {tile} is damaged (its end is missing). Copy the file again.")
            try:
                refuse_bomb(data)
                planes.append(self._decode(data, index, **self._tables)[0][0])
            except DAMAGE as error:
                message = f"{self._path.name}: {tile} is damaged ({error}). Copy the file again."
                raise SlideError(message) from error
        return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1)


def gaps(page: Any) -> str:
    """Describe what a page lacks: tifffile fills its place with 0, or with whatever follows in the file.

    Args:
        page: A tifffile.TiffPage whose file is open.

    Returns:
        ``3 of 12 tiles or strips hold no data``; empty if it is complete.
    """
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    empty = sum(not count or offset < _LEAST_OFFSET for offset, count in parts)
    if empty:
        return f"{empty} of {len(parts)} tiles or strips hold no data"
    planes = int(page.samplesperpixel) if page.planarconfig == _SEPARATE else 1
    if len(parts) < (expected := planes * _per_plane(page)):
        return f"lists {len(parts)} tiles or strips where {expected} are needed"
    row_bits = page.imagewidth * page.samplesperpixel * page.bitspersample
    needed, listed = -(-row_bits // 8) * page.imagelength, sum(count for _, count in parts)
    if page.compression == _UNCOMPRESSED and listed < needed:
        return f"lists {listed:,} bytes where {needed:,} are needed"
    return _cut_off(page, parts) if page.compression in tifffile.TIFF.IMAGE_COMPRESSIONS else ""


def _per_plane(page: Any) -> int:
    """Count the tiles or strips of one colour plane, or of all if they are interleaved."""
    width, height = int(page.imagewidth), int(page.imagelength)
    if page.is_tiled:
        return math.ceil(width / int(page.tilewidth)) * math.ceil(height / int(page.tilelength))
    return math.ceil(height / min(int(page.rowsperstrip) or height, height))


def _cut_off(page: Any, parts: Sequence[tuple[int, int]]) -> str:
    file = page.parent.filehandle
    for number, (offset, count) in enumerate(parts):
        file.seek(offset)
        if is_cut_off(file.read(count)):
            return f"the end of tile or strip {number} is missing"
    return ""


def _read_at(descriptor: int, count: int, offset: int) -> bytes:
    """Read without a shared file position, or one thread at a time on Windows, which has no ``pread``."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, offset)
    with _POSITION:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, count)


def _forget_tiles(page: Any) -> None:
    """Drop tifffile's own tile lists: as Python integers they take 25 MB for a slide of 100,000 px a side."""
    page.dataoffsets = page.databytecounts = ()
    for tag in _TILE_TAGS:
        if tag in page.tags:
            del page.tags[tag]
