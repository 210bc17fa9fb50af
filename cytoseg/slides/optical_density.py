"""Optical density: how much light a stain absorbs, by the law of Beer and Lambert."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_WHITE = 255
DARKEST = float(np.log10(_WHITE + 1))
"""The optical density of black with 8 bits: 2.4."""


def optical_density(pixels: NDArray[Any], ground: NDArray[Any] | int = _WHITE) -> NDArray[np.floating[Any]]:
    """Compute log10((ground + 1) / (pixel + 1)): 0 for the ground, larger for what is darker, below 0 if brighter.

    One is added so that black has a density.

    Args:
        pixels: Values of 0 to 255, of any shape; float32 stays float32, all others become float64.
        ground: What bare glass has: one value, or one for each channel. White by default.
    """
    values = pixels if pixels.dtype == np.float32 else pixels.astype(np.float64)
    return np.asarray(np.log10((ground + 1) / (values + 1)))
