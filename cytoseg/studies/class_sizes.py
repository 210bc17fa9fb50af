"""Object diameters per class."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

SMALL_PX = 32
"""Classes whose objects are narrower than this count as small."""


def class_diameters(label_maps: Sequence[NDArray[np.uint8]], classes: int) -> list[float | None]:
    """Measure the objects of each class: the diameter of the circle of equal area.

    The median is weighted by pixels, so that specks do not dominate: half of a class's pixels lie in larger objects.

    Args:
        label_maps: (H, W) uint8 ids each; 4-connected components are objects.
        classes: K.

    Returns:
        Diameters in pixels, one per class; None for a class without pixels.
    """
    diameters: list[float | None] = []
    for class_id in range(classes):
        found = [np.bincount(label(of_crop == class_id, connectivity=1).ravel())[1:] for of_crop in label_maps]
        areas = np.sort(np.concatenate(found)) if found else np.empty(0)
        if not areas.size:
            diameters.append(None)
            continue
        middle = areas[np.searchsorted(np.cumsum(areas), areas.sum() / 2)]
        diameters.append(2 * math.sqrt(middle / math.pi))
    return diameters
