"""Synthetic images of cells with label maps, so that the examples run without data."""

import numpy as np
from numpy.typing import NDArray

CLASSES = ("glass", "cytoplasm", "nucleus")


def made_cells(seed: int, side: int = 96) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw two cells; gives an image (H, W, 3) uint8 and its label map (H, W) with the ids of ``CLASSES``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    label_map = np.zeros((side, side), np.uint8)
    for _ in range(2):
        distance = np.hypot(x - rng.integers(20, side - 20), y - rng.integers(20, side - 20))
        label_map[(distance < 18) & (label_map == 0)] = 1
        label_map[distance < 7] = 2
    stain = np.array([(236, 234, 238), (180, 200, 220), (90, 60, 130)]) + rng.integers(-10, 11, 3)
    image = stain[label_map] + rng.integers(-6, 7, (side, side, 3))
    return image.clip(0, 255).astype(np.uint8), label_map
