"""Segmentation scores, all derived from confusion counts: pooled over crops, with intervals over slides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.metrics.results import ClassScores, Score, SlideScores

DRAWS = 1000
"""Resamplings behind an interval."""

Counts = NDArray[np.int64]
Shares = NDArray[np.float64]


def iou(counts: Counts) -> Shares:
    """Divide each class's intersection of truth and prediction by their union.

    Args:
        counts: (..., K, K) int64, rows truth, columns prediction.

    Returns:
        (..., K) float64, 0 to 1; NaN for a class that stands neither in the truth nor in the prediction.
    """
    hits, true, predicted = _totals(counts)
    return _divide(hits, true + predicted - hits)


def dice(counts: Counts) -> Shares:
    """Divide each class's intersection by the mean of truth and prediction; arrays and NaN as in ``iou``."""
    hits, true, predicted = _totals(counts)
    return _divide(2 * hits, true + predicted)


def precision(counts: Counts) -> Shares:
    """Tell which share of the pixels predicted as a class is right; as in ``iou``, but NaN where never predicted."""
    hits, _, predicted = _totals(counts)
    return _divide(hits, predicted)


def recall(counts: Counts) -> Shares:
    """Tell which share of the pixels of a class was found; as in ``iou``, but NaN where not in the truth."""
    hits, true, _ = _totals(counts)
    return _divide(hits, true)


def mean_iou(counts: Counts) -> Shares:
    """Average the IoU over the classes that apply.

    Args:
        counts: (..., K, K) int64, rows truth, columns prediction.

    Returns:
        (...) float64, 0 to 1; NaN where no class applies.
    """
    shares = iou(counts)
    applies = ~np.isnan(shares)
    return _divide(np.where(applies, shares, 0).sum(-1), applies.sum(-1))


def or_none(shares: Shares) -> list[float | None]:
    """Turn an array of shares into plain numbers, NaN into None, which JSON and the reports read as n/a."""
    return [None if np.isnan(share) else float(share) for share in shares.ravel()]


@dataclass(frozen=True)
class Intervals:
    """95 % intervals (low, high); None where there are none.

    Attributes:
        iou: One per class.
        miou: Of the mean over classes.
    """

    iou: tuple[tuple[float, float] | None, ...]
    miou: tuple[float, float] | None


def bootstrap_interval(slides: Counts, *, seed: int) -> Intervals:
    """Estimate how far the pooled IoU would move with other slides of the same kind.

    Slides are drawn with replacement, as many as there are, 1000 times over; pixels and crops of one slide are no
    independent witnesses and stay together. The same seed draws the same slides for every method.

    Args:
        slides: (S, K, K) int64 counts, one table per slide.
        seed: Decides what is drawn.

    Returns:
        From the 2.5th to the 97.5th percentile of the draws in which the class applies. None for a class that
        stands on fewer than two slides: one slide says nothing about others. None for the mean likewise.

    Source: Efron, Bootstrap methods: another look at the jackknife, Ann. Statist. 7 (1979), percentile method.
    """
    number, classes = slides.shape[:2]
    if number < 2:
        return Intervals((None,) * classes, None)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(number, np.full(number, 1 / number), size=DRAWS)
    drawn = np.tensordot(times, slides, axes=1)
    standing = (~np.isnan(iou(slides))).sum(axis=0)
    per_class = [_percentiles(draws) for draws in iou(drawn).T]
    kept = tuple(interval if n >= 2 else None for interval, n in zip(per_class, standing, strict=True))
    counted = (~np.isnan(mean_iou(slides))).sum()
    return Intervals(kept, _percentiles(mean_iou(drawn)) if counted >= 2 else None)


def pooled_scores(slides: Counts, names: Sequence[str], *, seed: int) -> tuple[tuple[ClassScores, ...], Score]:
    """Score one method over all its crops: intersections and unions are added up first, divided then.

    Args:
        slides: (S, K, K) int64 counts, one table per slide.
        names: The K class names.
        seed: Of the intervals.

    Returns:
        The scores of each class, and the mean IoU.
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


def slide_scores(slides: Mapping[str, Sequence[Counts]]) -> tuple[SlideScores, ...]:
    """Score one method on each slide, pooled over the slide's crops.

    Args:
        slides: (K, K) int64 counts of each crop, by slide.

    Returns:
        One entry per slide, by name.
    """
    scores = []
    for slide, crops in sorted(slides.items()):
        counts = np.sum(crops, axis=0)
        scores.append(SlideScores(slide, len(crops), or_none(mean_iou(counts))[0], tuple(or_none(iou(counts)))))
    return tuple(scores)


def _totals(counts: Counts) -> tuple[Counts, Counts, Counts]:
    """Return hits, true pixels and predicted pixels per class, (..., K) each."""
    return np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2)


def _divide(part: NDArray[Any], whole: NDArray[Any]) -> Shares:
    shares: Shares = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return shares


def _percentiles(draws: Shares) -> tuple[float, float] | None:
    applies = draws[~np.isnan(draws)]
    if not applies.size:
        return None
    low, high = np.percentile(applies, [2.5, 97.5])
    return float(low), float(high)


def _score(value: float | None, interval: tuple[float, float] | None) -> Score:
    return Score(value, *(interval or (None, None)))
