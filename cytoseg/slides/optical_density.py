"""Optical density of stains by the Beer-Lambert law."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_WHITE = 255
DARKEST = float(np.log10(_WHITE + 1))
"""Optical density of 8-bit black: 2.4."""


def optical_density(pixels: NDArray[Any], ground: NDArray[Any] | int = _WHITE) -> NDArray[np.floating[Any]]:
    """Compute log10((ground + 1) / (pixel + 1)): 0 for the background, positive if darker, negative if brighter.

    One is added so that the density of black is finite.

    Args:
        pixels: Values of 0 to 255, of any shape; float32 stays float32, other types become float64.
        ground: Value of bare glass: one value, or one per channel. White by default.
    """
    values = pixels if pixels.dtype == np.float32 else pixels.astype(np.float64)
    return np.asarray(np.log10((ground + 1) / (values + 1)))


def from_optical_density(density: NDArray[np.floating[Any]], ground: int = _WHITE) -> NDArray[np.float64]:
    """Compute the pixel values of an optical density: the inverse of ``optical_density``.

    Args:
        density: Optical density, of any shape.
        ground: Value of bare glass.

    Returns:
        The same shape; values may lie outside 0 to 255: a density below 0 is brighter than glass.
    """
    return np.asarray((ground + 1) * 10.0 ** -density.astype(np.float64) - 1)
