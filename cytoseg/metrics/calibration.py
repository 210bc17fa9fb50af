"""Calibration: confidence bins and expected calibration error (ECE)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Number of equally wide confidence bins."""


def confidence_bins(
    probabilities: NDArray[np.floating[Any]],
    classes: NDArray[np.integer[Any]],
    *,
    weights: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.float64]:
    """Count pixels by confidence of their prediction; counts of several crops add up.

    Args:
        probabilities: (P, K), each sums to 1 over K.
        classes: (P,) ids of the truth; without ignored pixels.
        weights: (P,) pixel weights; None weights all equally.

    Returns:
        (15, 3) float64: per bin the number of pixels, the sum of their confidences, and the number correct.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == classes
    counted = np.ones(len(classes)) if weights is None else weights.astype(np.float64)
    interval = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    sums = [np.bincount(interval, counted * values, minlength=BINS) for values in (1.0, confidence, right)]
    return np.stack(sums, axis=1)


def calibration_error(bins: NDArray[np.float64]) -> float:
    """Compute the expected calibration error (ECE): the mean over pixels of |confidence - accuracy| per bin.

    Args:
        bins: (15, 3) from ``confidence_bins``.

    Returns:
        0 to 1; NaN without pixels.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    pixels, confidence, right = bins.T
    return float(np.abs(confidence - right).sum() / pixels.sum()) if pixels.sum() else float("nan")
