"""Whether probabilities are calibrated: of pixels predicted with 80 %, four of five should be right."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Intervals of confidence, all equally wide."""


def confidence_bins(
    probabilities: NDArray[np.floating[Any]],
    classes: NDArray[np.integer[Any]],
    *,
    weights: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.float64]:
    """Sum up pixels by the confidence of their prediction; sums of several crops add up to those of all.

    Args:
        probabilities: (P, K), each sums to 1 over K.
        classes: (P,) ids of the truth; ignored pixels must have been left out.
        weights: (P,) what each pixel counts for; None counts each once.

    Returns:
        (15, 3) float64: for each interval the pixels, the sum of their confidences, and how many are right.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == classes
    counted = np.ones(len(classes)) if weights is None else weights.astype(np.float64)
    interval = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    sums = [np.bincount(interval, counted * values, minlength=BINS) for values in (1.0, confidence, right)]
    return np.stack(sums, axis=1)


def calibration_error(bins: NDArray[np.float64]) -> float:
    """Average over the pixels how far confidence is from the share that is right, interval by interval (the ECE).

    Args:
        bins: (15, 3) of ``confidence_bins``.

    Returns:
        0 to 1; NaN where there is no pixel.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    pixels, confidence, right = bins.T
    return float(np.abs(confidence - right).sum() / pixels.sum()) if pixels.sum() else float("nan")
