"""Segmentation scores from confusion counts, with bootstrap intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.metrics.results import ClassScores, Score, SlideScores

DRAWS = 1000
"""Number of bootstrap resamples."""

Counts = NDArray[np.int64]
Shares = NDArray[np.float64]


def iou(counts: Counts) -> Shares:
    """Compute the intersection over union (IoU) of each class.

    Args:
        counts: (..., K, K) int64, rows truth, columns prediction.

    Returns:
        (..., K) float64, 0 to 1; NaN for a class in neither truth nor prediction.
    """
    hits, true, predicted = _totals(counts)
    return _divide(hits, true + predicted - hits)


def dice(counts: Counts) -> Shares:
    """Compute the Dice coefficient of each class; arrays and NaN as in ``iou``."""
    hits, true, predicted = _totals(counts)
    return _divide(2 * hits, true + predicted)


def precision(counts: Counts) -> Shares:
    """Compute the precision of each class; as in ``iou``, but NaN if never predicted."""
    hits, _, predicted = _totals(counts)
    return _divide(hits, predicted)


def recall(counts: Counts) -> Shares:
    """Compute the recall of each class; as in ``iou``, but NaN if not in the truth."""
    hits, true, _ = _totals(counts)
    return _divide(hits, true)


def mean_iou(counts: Counts) -> Shares:
    """Average the IoU over the classes with a defined IoU.

    Args:
        counts: (..., K, K) int64, rows truth, columns prediction.

    Returns:
        (...) float64, 0 to 1; NaN if no class has one.
    """
    shares = iou(counts)
    applies = ~np.isnan(shares)
    return _divide(np.where(applies, shares, 0).sum(-1), applies.sum(-1))


def reference_miou(counts: Counts, on_ignored: Counts) -> float:
    """Average the IoU as the method's reference implementation does, to compare with published figures.

    Predictions on pixels with ignored truth are false positives, and a class in neither truth nor prediction has an
    IoU of 0.

    Args:
        counts: (K, K) int64, rows truth, columns prediction.
        on_ignored: (K,) int64 predictions on pixels with ignored truth, from ``counts_on_ignored``.

    Returns:
        The mean IoU, 0 to 1.

    Source: Baranchuk et al., Label-efficient semantic segmentation with diffusion models, ICLR 2022, its code.
    """
    hits, true, predicted = _totals(counts)
    shares = _divide(hits, true + predicted + on_ignored - hits)
    return float(np.nan_to_num(shares).mean())


def or_none(shares: Shares) -> list[float | None]:
    """Convert scores to Python numbers, with None for NaN."""
    return [None if np.isnan(share) else float(share) for share in shares.ravel()]


@dataclass(frozen=True)
class Intervals:
    """95 % intervals (low, high), or None.

    Attributes:
        iou: Intervals per class.
        miou: Interval of the mean IoU.
    """

    iou: tuple[tuple[float, float] | None, ...]
    miou: tuple[float, float] | None


def bootstrap_interval(slides: Counts, *, seed: int) -> Intervals:
    """Estimate the variation of the pooled IoU over slides by bootstrap.

    Slides are resampled with replacement 1000 times; pixels and crops of one slide are not independent and stay
    together. The same seed draws the same slides for every method.

    Args:
        slides: (S, K, K) int64 counts, one table per slide.
        seed: Random seed.

    Returns:
        From the 2.5th to the 97.5th percentile of the resamples with a defined IoU. None for a class on fewer than two
        slides, and for the mean likewise.

    Source: Efron, Bootstrap methods: another look at the jackknife, Ann. Statist. 7 (1979), percentile method.
    """
    number, classes = slides.shape[:2]
    if number < 2:
        return Intervals((None,) * classes, None)
    drawn = _resampled(slides, seed=seed)
    standing = (~np.isnan(iou(slides))).sum(axis=0)
    per_class = [_percentiles(draws) for draws in iou(drawn).T]
    kept = tuple(interval if n >= 2 else None for interval, n in zip(per_class, standing, strict=True))
    counted = (~np.isnan(mean_iou(slides))).sum()
    return Intervals(kept, _percentiles(mean_iou(drawn)) if counted >= 2 else None)


def pooled_scores(slides: Counts, names: Sequence[str], *, seed: int) -> tuple[tuple[ClassScores, ...], Score]:
    """Score one method over all its crops: intersections and unions are summed before dividing.

    Args:
        slides: (S, K, K) int64 counts, one table per slide.
        names: The K class names.
        seed: Seed of the intervals.

    Returns:
        Scores per class, and the mean IoU.
    """
    counts = slides.sum(axis=0)
    intervals = bootstrap_interval(slides, seed=seed)
    columns = (or_none(shares) for shares in (iou(counts), dice(counts), precision(counts), recall(counts)))
    rows = zip(names, *columns, intervals.iou, counts.sum(axis=1), strict=True)
    scores = tuple(
        ClassScores(name, _score(of_iou, interval), of_dice, of_precision, of_recall, int(pixels))
        for name, of_iou, of_dice, of_precision, of_recall, interval, pixels in rows
    )
    return scores, _score(or_none(mean_iou(counts))[0], intervals.miou)


def iou_kept(changed: Counts, clean: Counts, *, seed: int) -> tuple[Score, ...]:
    """Compute the share of the pooled IoU that is left where the images were changed, with intervals over slides.

    Both IoUs of a resample are of the same slides, so that easy and hard slides do not widen the interval.

    Args:
        changed: (S, K, K) int64 counts on the changed images, one table per slide.
        clean: (S, K, K) int64 counts on the unchanged images of the same slides.
        seed: Seed of the intervals.

    Returns:
        Per class IoU(changed) / IoU(clean), which exceeds 1 where the change helps; None if the clean IoU is undefined
        or 0. No interval for a class on fewer than two slides.
    """
    kept = or_none(_divide(iou(changed.sum(axis=0)), iou(clean.sum(axis=0))))
    if len(clean) < 2:
        return tuple(map(Score, kept))
    draws = _divide(iou(_resampled(changed, seed=seed)), iou(_resampled(clean, seed=seed)))
    standing = (~np.isnan(iou(clean))).sum(axis=0)
    intervals = [_percentiles(of_class) if n >= 2 else None for of_class, n in zip(draws.T, standing, strict=True)]
    return tuple(_score(value, interval) for value, interval in zip(kept, intervals, strict=True))


def slide_scores(slides: Mapping[str, Sequence[Counts]]) -> tuple[SlideScores, ...]:
    """Score one method on each slide, pooled over the slide's crops.

    Args:
        slides: (K, K) int64 counts per crop, by slide.

    Returns:
        One entry per slide, by name.
    """
    scores = []
    for slide, crops in sorted(slides.items()):
        counts = np.sum(crops, axis=0)
        scores.append(SlideScores(slide, len(crops), or_none(mean_iou(counts))[0], tuple(or_none(iou(counts)))))
    return tuple(scores)


def _totals(counts: Counts) -> tuple[Counts, Counts, Counts]:
    """Return correct, true and predicted pixels per class, (..., K) each."""
    return np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2)


def _divide(part: NDArray[Any], whole: NDArray[Any]) -> Shares:
    shares: Shares = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return shares


def _resampled(slides: Counts, *, seed: int) -> Counts:
    """Sum the counts of slides drawn with replacement, (DRAWS, K, K)."""
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(slides), np.full(len(slides), 1 / len(slides)), size=DRAWS)
    return np.tensordot(times, slides, axes=1)


def _percentiles(draws: Shares) -> tuple[float, float] | None:
    applies = draws[~np.isnan(draws)]
    if not applies.size:
        return None
    low, high = np.percentile(applies, [2.5, 97.5])
    return float(low), float(high)


def _score(value: float | None, interval: tuple[float, float] | None) -> Score:
    return Score(value, *(interval or (None, None)))
