"""Object metrics: matching counts, F1, AJI, panoptic quality."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.metrics.results import ObjectScores


@dataclass(frozen=True)
class ObjectCounts:
    """Counts of the objects of one class, additive over crops.

    Attributes:
        truth: True objects.
        predicted: Predicted objects.
        matched: Pairs of a true and a predicted object.
        iou: Sum of the IoU of these pairs.
        shared_px: Numerator of the AJI: intersection of each true object with its best predicted object.
        joined_px: Denominator of the AJI: their unions, plus unassigned predicted objects.
    """

    truth: int = 0
    predicted: int = 0
    matched: int = 0
    iou: float = 0.0
    shared_px: int = 0
    joined_px: int = 0

    def __add__(self, other: "ObjectCounts") -> "ObjectCounts":
        return ObjectCounts(
            self.truth + other.truth,
            self.predicted + other.predicted,
            self.matched + other.matched,
            self.iou + other.iou,
            self.shared_px + other.shared_px,
            self.joined_px + other.joined_px,
        )


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of a true and a predicted object that overlap, highest IoU first, with the areas of all objects."""

    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    shared: NDArray[np.int64]
    joined: NDArray[np.int64]
    true_px: NDArray[np.int64]
    predicted_px: NDArray[np.int64]


def object_counts(
    truth: NDArray[np.integer[Any]], prediction: NDArray[np.integer[Any]], *, ignored: NDArray[np.bool_]
) -> ObjectCounts:
    """Match the objects of one class in a crop.

    Args:
        truth: (H, W) instance ids from 1 on, 0 where there is no object.
        prediction: (H, W) predicted instance ids.
        ignored: (H, W) bool, True where unlabelled. Predicted objects with more than half of their pixels there
            do not count, nor do the pixels of other objects there.

    Returns:
        The counts.

    Raises:
        ValueError: If the maps differ in shape.
    """
    if not truth.shape == prediction.shape == ignored.shape:
        raise ValueError(f"shapes {truth.shape}, {prediction.shape} and {ignored.shape} must be equal")
    whole = np.bincount(prediction.ravel())
    unseen = np.bincount(prediction[ignored], minlength=len(whole)) * 2 > whole
    pairs = _overlaps(np.where(ignored, 0, truth), np.where(ignored | unseen[prediction], 0, prediction))
    matched, iou = _matches(pairs)
    shared, joined = _nearest(pairs)
    return ObjectCounts(
        truth=int(np.count_nonzero(pairs.true_px)),
        predicted=int(np.count_nonzero(pairs.predicted_px)),
        matched=matched,
        iou=iou,
        shared_px=shared,
        joined_px=joined,
    )


def object_scores(counts: ObjectCounts) -> ObjectScores:
    """Compute the scores of a class from its counts; None if the denominator is 0.

    Source: aggregated Jaccard index: Kumar et al., A dataset and a technique for generalized nuclear segmentation, IEEE
    Trans. Med. Imaging 36 (2017). Panoptic quality: Kirillov et al., CVPR 2019; which does not match at an
    IoU of exactly .5.
    """
    mean = (counts.truth + counts.predicted) / 2
    return ObjectScores(
        truth=counts.truth,
        predicted=counts.predicted,
        matched=counts.matched,
        precision=_share(counts.matched, counts.predicted),
        recall=_share(counts.matched, counts.truth),
        f1=_share(counts.matched, mean),
        aji=_share(counts.shared_px, counts.joined_px),
        pq=_share(counts.iou, mean),
        sq=_share(counts.iou, counts.matched),
        rq=_share(counts.matched, mean),
    )


def _overlaps(truth: NDArray[np.integer[Any]], prediction: NDArray[np.integer[Any]]) -> _Pairs:
    true_px, predicted_px = np.bincount(truth.ravel()), np.bincount(prediction.ravel())
    true_px[0] = predicted_px[0] = 0
    both = (truth > 0) & (prediction > 0)
    width = len(predicted_px)
    pairs, shared = np.unique(truth[both].astype(np.int64) * width + prediction[both], return_counts=True)
    true, predicted = np.divmod(pairs, width)
    joined = true_px[true] + predicted_px[predicted] - shared
    order = np.argsort(-shared / joined, kind="stable")
    return _Pairs(true[order], predicted[order], shared[order], joined[order], true_px, predicted_px)


def _matches(pairs: _Pairs) -> tuple[int, float]:
    """Match each object at most once, best pairs first; ties do not change the number of pairs."""
    # IoU of at least 0.5: an object then has one partner, or two that are each exactly half of it.
    close = 2 * pairs.shared >= pairs.joined
    kept = np.intersect1d(_first_of_each(pairs.true[close]), _first_of_each(pairs.predicted[close]))
    iou = pairs.shared[close][kept] / pairs.joined[close][kept]
    return len(kept), float(iou.sum())


def _nearest(pairs: _Pairs) -> tuple[int, int]:
    """Sum intersections and unions of each true object with its predicted object of highest IoU."""
    best = _first_of_each(pairs.true)
    alone = pairs.true_px.copy()
    alone[pairs.true[best]] = 0
    unused = pairs.predicted_px.copy()
    unused[pairs.predicted[best]] = 0
    return int(pairs.shared[best].sum()), int(pairs.joined[best].sum() + alone.sum() + unused.sum())


def _first_of_each(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(np.unique(values, return_index=True)[1], np.int64)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
