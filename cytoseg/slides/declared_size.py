"""Declared sizes of compressed tiles, checked before decoding (decompression bombs)."""

import struct
from typing import Any

import tifffile

from cytoseg.limits import how_to_raise, limit

_TILE = "CYTOSEG_MAX_TILE_PX"
_HEAD_BYTES = 2**17
_NO_SIZE = (0xC4, 0xC8, 0xCC)  # JPEG markers in the frame range C0 to CF that are not frames
_ALONE = (0x01, *range(0xD0, 0xD9))  # without a length


def refuse_large_tiles(page: Any) -> None:
    """Refuse a page whose tiles are larger than the limit.

    Raises:
        ValueError: If they are.
    """
    if page.is_tiled:
        refuse_large(int(page.tilewidth), int(page.tilelength), what="its tiles are")


def refuse_bombs(page: Any) -> None:
    """Check every tile or strip of a page before it is decoded whole.

    Args:
        page: A tifffile.TiffPage whose file is open.

    Raises:
        ValueError: If a declared size exceeds the limit.
    """
    refuse_large_tiles(page)
    if page.compression not in tifffile.TIFF.IMAGE_COMPRESSIONS:
        return
    file = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        file.seek(offset)
        refuse_bomb(file.read(min(count, _HEAD_BYTES)))


def refuse_bomb(data: bytes) -> None:
    """Refuse an encoded tile whose header declares an excessive size.

    Raises:
        ValueError: If the declared size exceeds the limit.
    """
    refuse_large(*claimed_size(data), what="it claims")


def refuse_large(width: int, height: int, *, what: str) -> None:
    """Refuse a tile that is too large to be decoded whole.

    Args:
        width: In pixels.
        height: In pixels.
        what: Start of the message.

    Raises:
        ValueError: If it has more pixels than the limit.
    """
    if width * height > limit(_TILE):
        raise ValueError(f"{what} {width:,} x {height:,} px. {how_to_raise(_TILE)}".rstrip("."))


def claimed_size(data: bytes) -> tuple[int, int]:
    """Read width and height from the header of a JPEG, JPEG 2000, PNG or WebP; (0, 0) for anything else."""
    if data.startswith(b"\xff\xd8"):
        return _of_jpeg(data)
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        return _pair(">II", data, 16)
    if data.startswith(b"RIFF"):
        return _of_webp(data)
    at = data.find(b"\xff\x4f\xff\x51", 0, 1024)
    if at >= 0 and len(data) >= at + 24:
        right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
        return max(0, right - left), max(0, bottom - top)
    return 0, 0


def _of_jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in _NO_SIZE:
            height, width = _pair(">HH", data, at + 5)
            return width, height
        at += 1 if marker == 0xFF else 2 if marker in _ALONE else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0, 0


def _of_webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8 " and len(data) >= 30:
        width, height = _pair("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return 0, 0


def _pair(form: str, data: bytes, at: int) -> tuple[int, int]:
    first, second = struct.unpack_from(form, data, at)
    return int(first), int(second)
