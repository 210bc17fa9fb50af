"""Contrast of an image, to distinguish cells from nearly empty glass."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cytoseg.slides.optical_density import optical_density

_MIN_SPREAD = 0.02
"""The optical density of bare glass varies by less than this: noise, dust, uneven light."""
_DENSEST_GLASS = 0.25
"""Largest mean optical density of glass in a dark exposure; a thick, even clump is denser."""


def density(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the optical density against white of each pixel and channel: (H * W, 3), from (H, W, 3) uint8 RGB."""
    return np.asarray(optical_density(picture.reshape(-1, 3)), np.float64)


def contrast(picture: NDArray[np.uint8]) -> float:
    """Measure the contrast: the standard deviation of the optical density in the channel that varies most.

    It is near 0 for glass and inside a clump, and largest where nuclei, cytoplasm and glass meet.

    Args:
        picture: (H, W, 3) uint8 RGB.
    """
    return float(density(picture).std(axis=0).max())


def near_empty(means: Sequence[float], spreads: Sequence[float]) -> bool:
    """Return whether a region is almost empty glass.

    Args:
        means: Mean optical density per channel.
        spreads: Standard deviation per channel.
    """
    return max(spreads) < _MIN_SPREAD and float(np.mean(means)) < _DENSEST_GLASS
