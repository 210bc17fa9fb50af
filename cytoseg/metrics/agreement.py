"""Agreement of two annotators: pixel agreement, kappa, IoU."""

from dataclasses import dataclass

import numpy as np

from cytoseg.metrics.segmentation import Counts, iou, or_none


@dataclass(frozen=True)
class Agreement:
    """Agreement of two annotators; undefined values are None.

    Attributes:
        pixels: Pixels labelled by both.
        same: Fraction of them with the same class.
        kappa: Cohen's kappa, 1 for full agreement, 0 for chance agreement; None if both gave all pixels the same single
            class, where chance agreement is complete.
        iou: IoU per class.
    """

    pixels: int
    same: float | None
    kappa: float | None
    iou: tuple[float | None, ...]


def agreement(counts: Counts) -> Agreement:
    """Compare two annotators.

    Args:
        counts: (K, K) int64 pixels by the class of the first and the second annotator, summed over crops.

    Returns:
        Their agreement, symmetric in both.
    """
    total = int(counts.sum())
    shares = tuple(or_none(iou(counts)))
    if not total:
        return Agreement(0, None, None, shares)
    return Agreement(total, float(np.trace(counts)) / total, cohens_kappa(counts), shares)


def cohens_kappa(counts: Counts) -> float | None:
    """Compute Cohen's kappa.

    Args:
        counts: (K, K) int64 pixels by the class of the first and the second annotator.

    Returns:
        At most 1; 0 for chance agreement; None if chance agreement is complete or there are no counts.

    Source: Cohen, A coefficient of agreement for nominal scales, Educ. Psychol. Meas. 20 (1960).
    """
    total = int(counts.sum())
    # Python integers: squared pixel counts can exceed 2**63.
    by_chance = sum(int(a) * int(b) for a, b in zip(counts.sum(axis=1), counts.sum(axis=0), strict=True))
    left_open = total * total - by_chance
    return (int(np.trace(counts)) * total - by_chance) / left_open if left_open else None
