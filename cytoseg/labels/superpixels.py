"""Superpixels of a crop, from which smart select builds regions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab
from skimage.segmentation import slic

SIDE_PX = 8
"""Side of an average superpixel; a small nucleus holds several."""
_COMPACTNESS = 8.0
_MAX_SUPERPIXELS = 65_535


@dataclass(frozen=True, eq=False)
class Superpixels:
    """Small connected parts of an image that are alike inside.

    Attributes:
        ids: (H, W) uint16, numbered from 0 without gaps.
        colours: (N, 3) float32, mean CIELAB colour of each.
    """

    ids: NDArray[np.uint16]
    colours: NDArray[np.float32]


def superpixels(picture: NDArray[np.uint8]) -> Superpixels:
    """Divide an image into superpixels (SLIC).

    Args:
        picture: (H, W, 3) uint8 RGB.
    """
    lab = rgb2lab(picture)
    wanted = min(_MAX_SUPERPIXELS, max(1, picture.shape[0] * picture.shape[1] // SIDE_PX**2))
    found = slic(picture, wanted, compactness=_COMPACTNESS, max_num_iter=5, start_label=0)
    _, ids = np.unique(found, return_inverse=True)
    flat = ids.ravel()
    sums = [np.bincount(flat, lab[..., channel].ravel()) for channel in range(3)]
    colours = np.stack(sums, axis=1) / np.bincount(flat)[:, None]
    return Superpixels(ids.reshape(found.shape).astype(np.uint16), colours.astype(np.float32))
