"""Checking that colours are distinguishable, including for colour-blind people."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

MIN_DISTANCE = 0.07
"""Oklab distance below which two colours are confusable: in the colour-blind safe palette of Okabe and Ito the two
nearest are 0.076 apart, and 0.02 is a just noticeable difference."""

_EYES = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
)
"""Linear RGB transforms for normal vision, protanopia, deuteranopia and tritanopia. Source: Machado, Oliveira and
Fernandes, A physiologically-based model for simulation of color vision deficiency, IEEE TVCG 15 (2009)."""

_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def confusable(colours: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Find pairs of colours that are confusable.

    Args:
        colours: Red, green and blue from 0 to 255.

    Returns:
        Indices of the pairs, in order. Distances are in Oklab (Ottosson, A perceptual color space for image processing,
        2020), for normal vision and three kinds of colour blindness.
    """
    if not colours:
        return []
    seen = _oklab(np.clip(_linear(np.array(colours, np.float64)) @ _EYES.transpose(0, 2, 1), 0, 1))
    pairs = combinations(range(len(colours)), 2)
    return [(i, j) for i, j in pairs if np.linalg.norm(seen[:, i] - seen[:, j], axis=1).min() < MIN_DISTANCE]


def _linear(srgb: NDArray[np.float64]) -> NDArray[np.float64]:
    share = srgb / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def _oklab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.cbrt(linear @ _CONES.T) @ _OKLAB.T, np.float64)
