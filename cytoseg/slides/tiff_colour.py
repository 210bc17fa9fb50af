"""Colour storage of a TIFF page: RGB, or YCbCr with or without chroma subsampling."""

import struct
from dataclasses import dataclass
from typing import Any

import tifffile

APERIO_YCBCR, _APERIO_RGB, _JPEG2000 = 33003, 33005, 34712
_JPEG2000S = (APERIO_YCBCR, 33004, _APERIO_RGB, _JPEG2000)
_JPEGS = (6, 7, 33007, 34892)
_HEAD = 65536  # bytes read of a tile: its header only
_SIZ, _COD, _START_OF_TILE = 0x51, 0x52, 0x90
_SYCC_BOX = b"colr\1\0\0\0\0\0\x12"  # JP2 colour spaces that the library converts to RGB
_HALVED = ((2, 1), (2, 2))
_PACKED = "colours at half width or height without JPEG"
_REDUCED = "YCbCr whose black and white are not 0 and 255"
_FULL_RANGES = ((0, 255, 128, 255, 128, 255), (0, 255, 0, 255, 0, 255))  # values of ReferenceBlackWhite


@dataclass(frozen=True)
class _Codestream:
    """Header of a JPEG 2000 codestream.

    Attributes:
        steps: Horizontal and vertical sample spacing of each channel.
        transformed: Whether the decoder converts its own YCbCr to RGB.
    """

    steps: tuple[tuple[int, int], ...]
    transformed: bool


def allow_chroma(page: Any) -> None:
    """Make tifffile ignore the chroma tag of JPEG 2000 pages: only the codestream's own header counts.

    Args:
        page: A tifffile.TiffPage that has not been decoded yet.
    """
    if page.compression in _JPEG2000S:
        page.subsampling = (1, 1)


def stores_ycbcr(page: Any) -> bool:
    """Return whether a page's decoder yields YCbCr, which must be converted to RGB.

    The JPEG 2000 library converts YCbCr with subsampled chroma to RGB by itself, but not YCbCr 4:4:4.

    Args:
        page: A tifffile.TiffPage whose file is open.
    """
    is_ycbcr = getattr(page.photometric, "name", "") == "YCBCR"
    if page.compression not in _JPEG2000S:
        return is_ycbcr and page.compression not in tifffile.TIFF.IMAGE_COMPRESSIONS
    head = _head(page)
    stream = _codestream(head)
    if stream is None or len(set(stream.steps)) > 1 or _SYCC_BOX in head:
        return False
    if page.compression == APERIO_YCBCR:
        return True
    return is_ycbcr and page.compression == _JPEG2000 and not stream.transformed


def odd_chroma(page: Any) -> str:
    """Describe why our decoders cannot convert a page's colours to RGB; empty if they can.

    Args:
        page: A tifffile.TiffPage whose file is open.
    """
    if page.compression not in _JPEG2000S:
        if page.compression in _JPEGS:
            return ""
        return _PACKED if page.is_subsampled else _REDUCED if stores_ycbcr(page) and _has_reduced_range(page) else ""
    stream = _codestream(_head(page))
    if stream is None or len(set(stream.steps)) == 1:
        return ""
    first, *others = stream.steps
    plain = first == (1, 1) and len(others) == 2 and len(set(others)) == 1 and others[0] in _HALVED
    if plain and page.compression != _APERIO_RGB:
        return ""
    return f"JPEG 2000 whose channels have samples every {' and '.join(f'{x}x{y}' for x, y in stream.steps)} px"


def _has_reduced_range(page: Any) -> bool:
    parts = page.tags.valueof("ReferenceBlackWhite")
    if not isinstance(parts, tuple) or len(parts) != 12:
        return False
    return tuple(above / (below or 1) for above, below in zip(parts[::2], parts[1::2], strict=True)) not in _FULL_RANGES


def _head(page: Any) -> bytes:
    """Read the start of the first tile that exists."""
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if count:
            file = page.parent.filehandle
            file.seek(offset)
            return bytes(file.read(min(count, _HEAD)))
    return b""


def _codestream(head: bytes) -> _Codestream | None:
    at = head.find(b"\xff\x4f\xff\x51")
    if at < 0:
        return None
    steps: tuple[tuple[int, int], ...] = ()
    transformed = False
    at += 2
    while at + 4 <= len(head) and head[at + 1] != _START_OF_TILE:
        marker, length = head[at + 1], struct.unpack(">H", head[at + 2 : at + 4])[0]
        segment = head[at + 4 : at + 2 + length]
        if marker == _SIZ:
            steps = tuple((segment[i + 1], segment[i + 2]) for i in range(36, len(segment) - 2, 3))
        if marker == _COD and len(segment) > 4:
            transformed = segment[4] == 1
        at += 2 + max(length, 2)
    return _Codestream(steps, transformed) if steps else None
