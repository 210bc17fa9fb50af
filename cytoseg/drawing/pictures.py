"""Overlays of label maps and disagreement, resizing, and data URIs."""

import base64
import struct
from collections.abc import Collection, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.errors import CytosegError
from cytoseg.limits import limit, raise_it

RAMP: tuple[tuple[int, int, int], ...] = ((12, 8, 38), (87, 15, 109), (187, 55, 84), (249, 142, 9), (252, 255, 164))
"""Colours from agreement to disagreement: dark to light, readable in grey and for colour-blind people."""

FAINTEST_NATS = 0.05
"""Below this the ensemble agrees, and contrast stretching would amplify noise."""
_NOISE = 0.5
"""Correlation of neighbouring pixels below which a picture is noise: grids of samples have .04 for noise, .91 for
cells."""

_DAMAGE = (OSError, EOFError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
"""Exceptions raised by Pillow on damaged bytes: a SyntaxError for a broken chunk header."""

_SIZE = "CYTOSEG_MAX_PICTURE_PX"

Colours = Sequence[tuple[int, int, int]]
Picture = NDArray[np.uint8]


def read_rgb(path: Path) -> Picture:
    """Read a picture file as (H, W, 3) uint8.

    Raises:
        CytosegError: If the file is missing, damaged or not a picture.
    """
    return np.asarray(_open(path).convert("RGB"))


def read_map(path: Path) -> Picture:
    """Read a one-channel PNG, ids or grey values, as (H, W) uint8.

    Raises:
        CytosegError: If the file is missing, damaged, not a picture or has colours.
    """
    picture = _open(path)
    if picture.mode not in ("L", "P"):
        raise CytosegError(f"{path.name}: expected one channel of 8 bits, found mode {picture.mode}.")
    return np.asarray(picture)


def paint_classes(
    picture: Picture, label_map: Picture, *, colours: Colours, shown: Collection[int], opacity: float
) -> Picture:
    """Overlay class colours on a picture.

    Args:
        picture: (H, W, 3) uint8.
        label_map: (H, W) uint8 ids; ids beyond the class list, such as ignore, are not painted.
        colours: One colour per class, in the order of the ids.
        shown: Ids of the classes to paint.
        opacity: 0 shows only the picture, 1 only the colours.

    Returns:
        (H, W, 3) uint8.
    """
    table = np.zeros((256, 3), np.float32)
    table[: len(colours)] = np.array(colours, np.float32).reshape(-1, 3)
    painted = np.isin(label_map, [class_id for class_id in shown if class_id < len(colours)])
    return _blend(picture, table[label_map], painted * np.float32(opacity))


def paint_disagreement(picture: Picture, disagreement: Picture, *, opacity: float) -> Picture:
    """Overlay the disagreement colours on a picture.

    Args:
        picture: (H, W, 3) uint8.
        disagreement: (H, W) uint8, 0 where all interpreters agree.
        opacity: 0 shows only the picture, 1 only the disagreement.

    Returns:
        (H, W, 3) uint8.
    """
    return _blend(picture, ramp_table()[disagreement], np.full(disagreement.shape, opacity, np.float32))


def stretched(nats: NDArray[np.floating], *, faintest_nats: float = FAINTEST_NATS) -> tuple[Picture, float]:
    """Stretch a disagreement for display.

    Args:
        nats: (H, W), 0 where all interpreters agree.
        faintest_nats: Lower limit of the value shown as 255, to avoid amplifying noise.

    Returns:
        (H, W) uint8, and the value of 255 in nats: the 99.5 % quantile.
    """
    brightest = max(faintest_nats, float(np.percentile(nats, 99.5)))
    return np.rint(np.clip(nats / brightest, 0, 1) * 255).astype(np.uint8), brightest


def is_noise(picture: Picture) -> bool:
    """Return whether a picture is only noise: neighbouring pixels are hardly correlated.

    Args:
        picture: (H, W, 3) uint8, or a grid of several.

    Returns:
        True for noise; False also for a picture of a single colour.
    """
    grey = picture.astype(np.float64).mean(axis=2)
    left, right = grey[:, :-1].ravel(), grey[:, 1:].ravel()
    if left.size < 2 or left.std() < 1 or right.std() < 1:
        return False
    return float(np.corrcoef(left, right)[0, 1]) < _NOISE


def is_noise_file(path: Path) -> bool:
    """Return whether a picture file shows only noise; False if it is missing or damaged."""
    try:
        return is_noise(read_rgb(path))
    except CytosegError:
        return False


def ramp_table() -> NDArray[np.floating]:
    """Return the disagreement colours for values 0 to 255, (256, 3) float64."""
    stops = np.linspace(0, 255, len(RAMP))
    return np.stack([np.interp(np.arange(256), stops, channel) for channel in zip(*RAMP, strict=True)], axis=1)


def class_veil(ids: Picture, colours: Colours, *, clear: int) -> Picture:
    """Colour a class map as a transparent overlay.

    Args:
        ids: (H, W) uint8; other ids are transparent.
        colours: Class colours.
        clear: Id of the transparent class.

    Returns:
        (H, W, 4) uint8 RGBA.
    """
    table = np.zeros((256, 4), np.uint8)
    table[: len(colours)] = [(*colour, 255) for colour in colours]
    table[clear] = 0
    return table[ids]


def disagreement_veil(nats: NDArray[np.float32], *, most: float) -> Picture:
    """Colour a disagreement as an overlay, transparent where all agree, (H, W, 4) uint8 RGBA.

    Args:
        nats: (H, W) float32.
        most: The value of the last colour; larger values are clipped.
    """
    grey = np.clip(255 * nats / most, 0, 255).astype(np.uint8)
    return np.dstack(
        [ramp_table()[grey].round().astype(np.uint8), np.minimum(255, 2 * grey.astype(int)).astype(np.uint8)]
    )


def enlarge(picture: Picture, factor: int) -> Picture:
    """Enlarge by an integer factor with pixel replication; (H, W[, 3]) uint8."""
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def enlarge_smoothly(picture: Picture, factor: int) -> Picture:
    """Enlarge a colour picture (H, W, 3) uint8 with smooth edges; never for ids."""
    height, width = picture.shape[:2]
    return np.asarray(Image.fromarray(picture).resize((width * factor, height * factor), Image.Resampling.BICUBIC))


def reduced(picture: Picture, max_px: int) -> Picture:
    """Reduce a colour picture (H, W, 3) uint8 to a longest side of ``max_px``; a smaller one is unchanged."""
    small = Image.fromarray(picture)
    small.thumbnail((max_px, max_px), Image.Resampling.LANCZOS)
    return np.asarray(small)


def data_uri(path: Path, *, max_px: int, kind: str) -> str:
    """Encode a picture as a data URI for an HTML page.

    Args:
        path: The picture file.
        max_px: Longest side in pixels; larger pictures are reduced.
        kind: ``jpeg`` for photographs, ``png`` for curves and flat colours.

    Returns:
        A data URI.

    Raises:
        CytosegError: If the file is missing, damaged or not a picture.
    """
    picture = _open(path).convert("RGB")
    picture.thumbnail((max_px, max_px), Image.Resampling.LANCZOS)
    packed = BytesIO()
    picture.save(packed, kind, optimize=True, **({"quality": 88} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(packed.getvalue()).decode('ascii')}"


def _open(path: Path) -> Image.Image:
    where = f"{path.parent.name}/{path.name}"
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > limit(_SIZE):
                raise CytosegError(f"{where} claims {picture.width}x{picture.height} pixels. {raise_it(_SIZE)}")
            picture.load()
            return picture
    except FileNotFoundError as error:
        raise CytosegError(f"{where} is missing. Run the command that writes it again.") from error
    except _DAMAGE as error:
        raise CytosegError(f"{where} cannot be read as an image. Run the command that writes it again.") from error


def _blend(picture: Picture, colours: NDArray[np.floating], alpha: NDArray[np.float32]) -> Picture:
    weight = alpha[..., None]
    return np.rint(picture * (1 - weight) + colours * weight).astype(np.uint8)
