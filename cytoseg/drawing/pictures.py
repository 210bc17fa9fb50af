"""Image files: reading, reducing, data URIs, and detection of noise."""

import base64
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.errors import CytosegError
from cytoseg.limits import how_to_raise, limit

_NOISE = 0.5
"""Correlation of neighbouring pixels below which an image is noise: grids of samples have .04 for noise, .91 for
cells."""

_DAMAGE = (OSError, EOFError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
"""Exceptions raised by Pillow on damaged bytes: a SyntaxError for a broken chunk header."""

_SIZE = "CYTOSEG_MAX_PICTURE_PX"

Picture = NDArray[np.uint8]


def read_rgb(path: Path) -> Picture:
    """Read an image file as (H, W, 3) uint8.

    Raises:
        CytosegError: If the file is missing, damaged or not an image.
    """
    return np.asarray(_open(path).convert("RGB"))


def read_map(path: Path) -> Picture:
    """Read a one-channel PNG, ids or grey values, as (H, W) uint8.

    Raises:
        CytosegError: If the file is missing, damaged, not an image or has colours.
    """
    picture = _open(path)
    if picture.mode not in ("L", "P"):
        raise CytosegError(f"{path.name}: expected one channel of 8 bits, found mode {picture.mode}.")
    return np.asarray(picture)


def is_noise(picture: Picture) -> bool:
    """Return whether an image is only noise: neighbouring pixels are hardly correlated.

    Args:
        picture: (H, W, 3) uint8, or a grid of several.

    Returns:
        True for noise; False also for an image of a single colour.
    """
    grey = picture.astype(np.float64).mean(axis=2)
    left, right = grey[:, :-1].ravel(), grey[:, 1:].ravel()
    if left.size < 2 or left.std() < 1 or right.std() < 1:
        return False
    return float(np.corrcoef(left, right)[0, 1]) < _NOISE


def is_noise_file(path: Path) -> bool:
    """Return whether an image file shows only noise; False if it is missing or damaged."""
    try:
        return is_noise(read_rgb(path))
    except CytosegError:
        return False


def reduced(picture: Picture, max_px: int) -> Picture:
    """Reduce a colour image (H, W, 3) uint8 to a longest side of ``max_px``; a smaller one is unchanged."""
    small = Image.fromarray(picture)
    small.thumbnail((max_px, max_px), Image.Resampling.LANCZOS)
    return np.asarray(small)


def data_uri(path: Path, *, max_px: int, kind: str) -> str:
    """Encode an image as a data URI for an HTML page.

    Args:
        path: The image file.
        max_px: Longest side in pixels; larger images are reduced.
        kind: ``jpeg`` for photographs, ``png`` for curves and flat colours.

    Returns:
        A data URI.

    Raises:
        CytosegError: If the file is missing, damaged or not an image.
    """
    picture = _open(path).convert("RGB")
    picture.thumbnail((max_px, max_px), Image.Resampling.LANCZOS)
    packed = BytesIO()
    picture.save(packed, kind, optimize=True, **({"quality": 88} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(packed.getvalue()).decode('ascii')}"


def _open(path: Path) -> Image.Image:
    where = f"{path.parent.name}/{path.name}"
    try:
        if path.exists() and not path.is_file():  # opening a pipe would block
            raise OSError("no file")
        with Image.open(path) as picture:
            if picture.width * picture.height > limit(_SIZE):
                raise CytosegError(f"{where} claims {picture.width}x{picture.height} pixels. {how_to_raise(_SIZE)}")
            picture.load()
            return picture
    except FileNotFoundError as error:
        raise CytosegError(f"{where} is missing. Run the command that writes it again.") from error
    except _DAMAGE as error:
        raise CytosegError(f"{where} cannot be read as an image. Run the command that writes it again.") from error
