"""TIFF files with arbitrary tags, which no library writes."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

SIDE = 64
"""Of the one tile that ``tile`` writes, in pixels."""

PHOTOMETRIC = {"rgb": b"\2\0", "ycbcr": b"\6\0"}
APERIO = "Aperio Image Library v10\r\n64x64 (64x64) J2K/YUV16|AppMag = 20|MPP = 0.4990"

_ENTRY = struct.Struct("<HHI")


def retag(path: Path, code: int, kind: int, count: int, value: bytes, *, page: int = 0, new_code: int = 0) -> Path:
    """Overwrite a tag of a page; of a little-endian classic TIFF.

    Args:
        path: The file.
        code: Number of the tag, which the page must have.
        kind: Of its values: 2 text, 3 two bytes, 4 four bytes, 5 fractions, 12 double, ...
        count: Of values.
        value: In bytes; more than four go to the end of the file.
        page: Index of the page.
        new_code: Number of the tag from now on; 0 keeps it.
    """
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[page].tags[code].offset
    content = bytearray(path.read_bytes())
    if len(value) > 4:
        value, content = struct.pack("<I", len(content)), content + value
    content[offset : offset + 12] = _ENTRY.pack(new_code or code, kind, count) + value.ljust(4, b"\0")
    path.write_bytes(content)
    return path


def tile(path: Path, data: bytes, compression: int, *, photometric: str = "rgb") -> Path:
    """Write one tile of RGB as it is.

    Args:
        path: Where to write.
        data: The tile, compressed.
        compression: The tag's value.
        photometric: A key of ``PHOTOMETRIC``, for the tag.
    """
    shape: dict[str, Any] = {"shape": (SIDE, SIDE, 3), "dtype": np.uint8, "tile": (SIDE, SIDE)}
    tifffile.imwrite(
        path, iter([data]), **shape, photometric="rgb", compression=compression, description=APERIO, metadata=None
    )
    return retag(path, 262, 3, 1, PHOTOMETRIC[photometric])


def without_data(path: Path, *, part: int, tags: Sequence[int]) -> None:
    """Set offset or length (tags 273, 279 of strips, 324, 325 of tiles) of one tile or strip to 0."""
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for code in tags:
            tag = file.pages.first.tags[code]
            length = {3: 2, 4: 4, 16: 8}[int(tag.dtype)]
            start = tag.valueoffset + part * length
            content[start : start + length] = bytes(length)
    path.write_bytes(content)
