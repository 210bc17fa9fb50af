"""Risk-coverage metrics: AURC and errors among uncertain pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from cytoseg.metrics.results import Risk

BINS = 2**15
"""Number of uncertainty bins. Each spans less than 0.8 % of its value; values within a bin count as equal."""
LEAST_CERTAIN = 0.05
"""Fraction of the pixels that could be reviewed."""
COVERAGES = tuple(step / 20 for step in range(1, 21))
"""Coverages at which the curve is stored."""

_SHIFT = 16
"""Bits of a float32 that are dropped; the others, exponent and 7 bits of the fraction, order positive numbers."""


def risk_counts(
    uncertainty: NDArray[np.floating[Any]],
    *,
    predicted: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    classes: int,
) -> NDArray[np.int64]:
    """Count pixels and errors by uncertainty and predicted class; counts of several crops add up.

    Args:
        uncertainty: (P,), 0 or more, larger is less certain; finite.
        predicted: (P,) ids of the prediction.
        truth: (P,) ids of the truth, without ignored pixels.
        classes: Number of classes.

    Returns:
        (K, BINS, 2) int64: per predicted class and bin, from certain to uncertain, the number of pixels and of
        wrong ones.
    """
    positive = np.maximum(uncertainty, 0).astype(np.float32) + np.float32(
        0
    )  # no -0, whose bits equal those of a large number
    interval = positive.view(np.int32).astype(np.int64) >> _SHIFT
    place = predicted.astype(np.int64) * BINS + interval
    sums = [np.bincount(chosen, minlength=classes * BINS) for chosen in (place, place[predicted != truth])]
    return np.stack(sums, axis=-1).reshape(classes, BINS, 2)


def risk(counts: NDArray[np.int64]) -> Risk:
    """Compute how well uncertainty separates correct from wrong pixels.

    Ties are averaged over all orders.

    Args:
        counts: (BINS, 2) from ``risk_counts``, for one class or summed over classes.

    Source: Geifman et al., Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers, ICLR 2019.
    """
    pixels, errors = (int(total) for total in counts.sum(axis=0))
    if not pixels:
        return Risk(0, None, None, None, None)
    kept = counts[counts[:, 0] > 0].astype(np.float64)
    before = np.cumsum(kept, axis=0) - kept
    share = kept[:, 1] / kept[:, 0]
    # The sum of (errors before + share * (i - pixels before)) / i over the pixels i of an interval.
    reciprocals = _harmonic(before[:, 0] + kept[:, 0]) - _harmonic(before[:, 0])
    total = kept[:, 1] + (before[:, 1] - share * before[:, 0]) * reciprocals
    right = float(pixels - errors)
    best = errors - right * float(_harmonic(np.array(float(pixels))) - _harmonic(np.array(right)))
    found = errors - _errors_at(counts, (1 - LEAST_CERTAIN) * pixels)
    return Risk(
        pixels=pixels,
        error=errors / pixels,
        aurc=float(total.sum()) / pixels,
        aurc_best=best / pixels,
        found=found / errors if errors else None,
    )


def risk_curve(counts: NDArray[np.int64]) -> tuple[float | None, ...]:
    """Return the error rate among the most certain pixels at each of ``COVERAGES``; None without pixels.

    Args:
        counts: (BINS, 2) of ``risk_counts``.
    """
    pixels = int(counts[:, 0].sum())
    return tuple(_errors_at(counts, share * pixels) / (share * pixels) if pixels else None for share in COVERAGES)


def _errors_at(counts: NDArray[np.int64], covered: float) -> float:
    """Return the number of errors among the ``covered`` most certain pixels, interpolated linearly within a bin."""
    along = np.concatenate([np.zeros((1, 2)), counts[counts[:, 0] > 0].cumsum(axis=0)])
    return float(np.interp(covered, along[:, 0], along[:, 1]))


def _harmonic(n: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum 1 / i for i from 1 to n, less the same constant for every n."""
    sums: NDArray[np.float64] = digamma(n + 1)
    return sums
