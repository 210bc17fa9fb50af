"""Baseline: the most frequent class per optical density."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE
from cytoseg.errors import LabelError
from cytoseg.slides.optical_density import DARKEST, optical_density

LEVELS = 64


@dataclass(frozen=True)
class DensityThresholds:
    """A class for each of 64 densities.

    Attributes:
        classes: (64,) uint8 ids, from bright to dark.
    """

    classes: NDArray[np.uint8]

    def predict(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Classify each pixel of a crop.

        Args:
            picture: (H, W, 3) uint8 RGB.

        Returns:
            (H, W) uint8 class map; only classes in the training pixels occur.
        """
        ids: NDArray[np.uint8] = self.classes[_levels(picture)]
        return ids


def fit_thresholds(
    pictures: Sequence[NDArray[np.uint8]], label_maps: Sequence[NDArray[np.uint8]], *, classes: int
) -> DensityThresholds:
    """Find the most frequent class of each optical density; with two classes this is a threshold.

    A density without labelled pixels takes the class of the nearest one that has some.

    Args:
        pictures: Crops, each (H, W, 3) uint8 RGB.
        label_maps: One per crop, (H, W) uint8 ids, 255 for ignore.
        classes: K.

    Returns:
        The fitted baseline.

    Raises:
        LabelError: If no pixel of any crop is labelled.
    """
    counts = np.zeros((LEVELS, classes), np.int64)
    for picture, label_map in zip(pictures, label_maps, strict=True):
        labelled = label_map != IGNORE
        np.add.at(counts, (_levels(picture)[labelled], label_map[labelled]), 1)
    seen = np.flatnonzero(counts.sum(axis=1))
    if not seen.size:
        raise LabelError(
            f"no pixel of the {len(pictures)} training crops is labelled. Annotate some and import them again."
        )
    nearest = seen[np.abs(np.arange(LEVELS)[:, None] - seen[None]).argmin(axis=1)]
    return DensityThresholds(counts[nearest].argmax(axis=1).astype(np.uint8))


def _levels(picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Quantise the mean optical density of a pixel, 0 to 2.4 for 8 bits, into 64 levels."""
    density = optical_density(picture.astype(np.float32)).mean(axis=2)
    levels: NDArray[np.int64] = np.clip(density * (LEVELS / DARKEST), 0, LEVELS - 1).astype(np.int64)
    return levels
