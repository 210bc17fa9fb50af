"""Measurements of an object: size, shape, colour and uncertainty."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytoseg.objects.padded_mask import padded
from cytoseg.slides.optical_density import optical_density

_DENSITY = optical_density(np.arange(256))
"""Optical density of an 8-bit value against white; 0 for white, 2.4 for black."""

_PIECE_PX = 2**16
"""Pixels whose colours are summed at a time."""


@dataclass(frozen=True, eq=False)
class Cutout:
    """One object in its bounding box.

    Attributes:
        mask: (h, w) bool, the object.
        picture: (h, w, 3) uint8 RGB.
        confidence: (h, w) uint8, probability of each pixel's class in 255ths.
        uncertainty: (h, w) float32 in nats.
    """

    mask: NDArray[np.bool_]
    picture: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """Size and shape of an object in pixels of the maps.

    Attributes:
        pixels: Number of pixels.
        x: Centroid from the left edge of the mask; the centre of the first pixel is 0.5.
        y: Centroid from the upper edge.
        perimeter: Length of the outline by Crofton's formula in four directions, within 3 % for discs of radius 4 or
            more.
        circularity: 4 pi area / perimeter squared, at most 1; 1 for a disc.
        eccentricity: Eccentricity of the ellipse with the same second moments: 0 for a disc, towards 1 for a line.
    """

    pixels: int
    x: float
    y: float
    perimeter: float
    circularity: float
    eccentricity: float


@dataclass(frozen=True)
class Content:
    """Colour and uncertainty of the pixels of an object.

    Attributes:
        means: Means of red, green and blue (0 to 255) and of the optical density (0 to 2.4, mean of three channels).
        deviations: Standard deviations of the same.
        confidence: Mean probability of the predicted class, 0 to 1.
        uncertainty: Mean, in nats.
    """

    means: list[float]
    deviations: list[float]
    confidence: float
    uncertainty: float


def shape_of(mask: NDArray[np.bool_]) -> Shape:
    """Measure the shape of an object.

    Args:
        mask: (h, w) bool, at least one pixel.

    Returns:
        Size and shape.
    """
    row, column = np.arange(mask.shape[0]) + 0.5, np.arange(mask.shape[1]) + 0.5
    # By rows and columns, so that a large object needs no list of its pixels.
    in_row, in_column, sum_x = np.count_nonzero(mask, axis=1), np.count_nonzero(mask, axis=0), mask @ column
    pixels = int(in_row.sum())
    x, y = float(sum_x.sum()) / pixels, float(in_row @ row) / pixels
    across, down = float(in_column @ (column - x) ** 2), float(in_row @ (row - y) ** 2)
    perimeter = _perimeter(mask)
    return Shape(
        pixels=pixels,
        x=x,
        y=y,
        perimeter=perimeter,
        circularity=min(1.0, 4 * math.pi * pixels / perimeter**2),
        eccentricity=_eccentricity(across, down, mixed=float((row - y) @ (sum_x - x * in_row))),
    )


def content_of(cutout: Cutout) -> Content:
    """Measure colour, confidence and uncertainty over the pixels of an object, at the resolution of the maps."""
    inside = cutout.mask
    colours = cutout.picture[inside]
    total, squares = np.zeros(4), np.zeros(4)
    for first in range(0, len(colours), _PIECE_PX):
        piece = colours[first : first + _PIECE_PX]
        values = np.concatenate([piece, _DENSITY[piece].mean(axis=1, keepdims=True)], axis=1)
        total += values.sum(axis=0)
        squares += (values**2).sum(axis=0)
    means = total / len(colours)
    deviations = np.sqrt(np.maximum(squares / len(colours) - means**2, 0))
    return Content(
        means=means.tolist(),
        deviations=deviations.tolist(),
        confidence=float(cutout.confidence[inside].mean()) / 255,
        uncertainty=float(cutout.uncertainty[inside].mean(dtype=np.float64)),
    )


def _perimeter(mask: NDArray[np.bool_]) -> float:
    """Count the intersections of lines with the object in rows, columns and both diagonals.

    Source: Serra, Image Analysis and Mathematical Morphology (1982), chapter 5.
    """
    inside = padded(mask)
    outside = ~inside
    straight = np.count_nonzero(inside[:, 1:] & outside[:, :-1]) + np.count_nonzero(inside[1:] & outside[:-1])
    slanted = np.count_nonzero(inside[1:, 1:] & outside[:-1, :-1]) + np.count_nonzero(
        inside[1:, :-1] & outside[:-1, 1:]
    )
    return math.pi / 4 * (straight + slanted / math.sqrt(2))


def _eccentricity(across: float, down: float, *, mixed: float) -> float:
    middle, apart = (across + down) / 2, math.hypot((across - down) / 2, mixed)
    return math.sqrt(min(1.0, 2 * apart / (middle + apart))) if middle > 0 else 0.0
