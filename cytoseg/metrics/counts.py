"""Confusion counts, from which all segmentation scores are derived."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE


def confusion_counts(
    truth: NDArray[np.integer[Any]], prediction: NDArray[np.integer[Any]], classes: int
) -> NDArray[np.int64]:
    """Count pixels by true and predicted class.

    Counts of several crops add up, which is how scores are pooled.

    Args:
        truth: (H, W) ids, 0 to ``classes - 1``, or 255 for ignore.
        prediction: (H, W) ids likewise. A pixel that is ignore in either map does not count.
        classes: Number of classes K.

    Returns:
        (K, K) int64, rows truth, columns prediction.

    Raises:
        ValueError: If the maps differ in shape or contain an id beyond the classes.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"the truth has shape {truth.shape}, the prediction {prediction.shape}: they must be equal")
    for name, ids in (("truth", truth), ("prediction", prediction)):
        strange = ids[(ids != IGNORE) & ((ids < 0) | (ids >= classes))]
        if strange.size:
            raise ValueError(f"the {name} holds id {strange[0]}, but there are {classes} classes (0 to {classes - 1})")
    counted = (truth != IGNORE) & (prediction != IGNORE)
    # One number per pair of ids; int64, because a pair does not fit into 8 bits.
    pairs = truth[counted].astype(np.int64) * classes + prediction[counted]
    return np.bincount(pairs, minlength=classes**2).astype(np.int64).reshape(classes, classes)


def counts_on_ignored(
    truth: NDArray[np.integer[Any]], prediction: NDArray[np.integer[Any]], classes: int
) -> NDArray[np.int64]:
    """Count pixels with ignored truth by predicted class.

    Args:
        truth: (H, W) ids, or 255 for ignore.
        prediction: (H, W) ids, 0 to ``classes - 1``, or 255 for ignore, which does not count.
        classes: Number of classes K.

    Returns:
        (K,) int64.
    """
    predicted = prediction[(truth == IGNORE) & (prediction != IGNORE)]
    return np.bincount(predicted.astype(np.int64), minlength=classes).astype(np.int64)
