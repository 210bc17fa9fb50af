"""Image orientation from EXIF and TIFF tags."""

import os
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

Pixel = TypeVar("Pixel", bound=np.generic)

_TAG = 274  # the tag's number, the same in EXIF and TIFF
_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
_PNG_SIGNATURE_BYTES, _PNG_CHECKSUM_BYTES = 8, 4


def turned(pixels: NDArray[Pixel], turn: int) -> NDArray[Pixel]:
    """Rotate or flip an image or mask upright.

    Args:
        pixels: (H, W, 3) or (H, W) as stored.
        turn: 1 to 8, from ``picture_turn`` or ``tiff_turn``; 5 and above swap height and width.

    Returns:
        The same dtype, height and width swapped or not, contiguous and writeable.
    """
    return np.require(_TURNS[turn](pixels) if turn in _TURNS else pixels, requirements=["C", "W"])


def picture_turn(image: ImageFile.ImageFile, source: Path | bytes) -> int:
    """Read the orientation of an open Pillow image, 1 to 8; may decode a PNG.

    Args:
        image: The open image.
        source: The file, or its bytes.
    """
    if image.format == "PNG" and not _metadata_follows_pixels(source):
        try:
            exif = Image.Image.getexif(image)  # getexif of a PNG decodes all of it to find metadata after the pixels
        except SyntaxError:  # the metadata is not EXIF
            return 1
    else:
        exif = image.getexif()
    turn = exif.get(_TAG, 1)
    return turn if isinstance(turn, int) and turn in _TURNS else 1


def tiff_turn(page: Any) -> int:
    """Read the orientation of a tifffile.TiffPage, 1 to 8."""
    turn = int(page.tags.valueof(_TAG, 1))
    return turn if turn in _TURNS else 1


def _metadata_follows_pixels(source: Path | bytes) -> bool:
    with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        return _has_late_chunk(file)


def _has_late_chunk(file: BinaryIO) -> bool:
    """Return whether a PNG has chunks between its pixels and its end; True also if it is truncated."""
    file.seek(_PNG_SIGNATURE_BYTES)
    in_pixels = False
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            return False
        if in_pixels and kind != b"IDAT":
            return True
        in_pixels = in_pixels or kind == b"IDAT"
        file.seek(length + _PNG_CHECKSUM_BYTES, os.SEEK_CUR)
    return True
