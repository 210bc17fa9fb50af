"""Whether a picture holds something that a model could learn from, or next to nothing but glass."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cytoseg.slides.optical_density import optical_density

_LEAST_SPREAD = 0.02
"""Optical density of bare glass varies by less: noise, dust, uneven light."""
_DENSEST_GLASS = 0.25
"""Mean optical density of what may still be glass, where the camera was set dark; a thick, even clump is denser."""


def density(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the optical density against white of each pixel and channel: (H * W, 3), from (H, W, 3) uint8 RGB."""
    return np.asarray(optical_density(picture.reshape(-1, 3)), np.float64)


def spread(picture: NDArray[np.uint8]) -> float:
    """Measure how much there is to see: the standard deviation of the optical density, in its most varied channel.

    Glass has almost none, and neither has the inside of a clump; nuclei, cytoplasm and glass side by side have most.

    Args:
        picture: (H, W, 3) uint8 RGB.
    """
    return float(density(picture).std(axis=0).max())


def near_empty(means: Sequence[float], spreads: Sequence[float]) -> bool:
    """Return whether a region is glass with next to nothing on it.

    Args:
        means: Mean optical density of its channels.
        spreads: Their standard deviations.
    """
    return max(spreads) < _LEAST_SPREAD and float(np.mean(means)) < _DENSEST_GLASS
