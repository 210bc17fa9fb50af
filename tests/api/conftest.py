"""Small synthetic images of cells, and a classifier trained on them once."""

import numpy as np
import pytest
from numpy.typing import NDArray

import cytoseg as cs

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def made_cell(seed: int, width: int = 48, height: int = 48) -> Pair:
    """Draw a dark cell on bright glass: image (H, W, 3) and label map, glass 0, cell 1, its border 255."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(x - rng.integers(14, width - 14), y - rng.integers(14, height - 14))
    image = np.where((distance < 11)[..., None], (90, 50, 120), (230, 228, 232)) + rng.integers(
        -6, 7, (height, width, 3)
    )
    label_map = (distance < 10).astype(np.uint8)
    label_map[(distance >= 10) & (distance < 12)] = cs.IGNORE
    return image.astype(np.uint8), label_map


@pytest.fixture(scope="session")
def cells() -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Three images, and their label maps."""
    pairs = [made_cell(seed) for seed in range(3)]
    return [image for image, _ in pairs], [label_map for _, label_map in pairs]


@pytest.fixture(scope="session")
def fitted(cells: tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]) -> cs.PixelClassifier:
    """A classifier of few members and steps, on the features of the base model and filters."""
    return cs.PixelClassifier(["glass", "cell"], members=2, steps=30, device="cpu").fit(*cells)
