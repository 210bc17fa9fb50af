"""How far two people who marked the same crops agree."""

from dataclasses import dataclass

import numpy as np

from cytoseg.metrics.segmentation import Counts, iou, or_none


@dataclass(frozen=True)
class Agreement:
    """What two people agree on; each share is None where nothing can be said.

    Attributes:
        pixels: Pixels that both gave a class.
        same: Share of them that both gave the same class.
        kappa: Cohen's kappa, 1 for full agreement, 0 for what chance alone would give; None where both gave all pixels
            one and the same class, for then chance alone agrees fully.
        iou: One for each class of the class list.
    """

    pixels: int
    same: float | None
    kappa: float | None
    iou: tuple[float | None, ...]


def agreement(counts: Counts) -> Agreement:
    """Compare two people.

    Args:
        counts: (K, K) int64 pixels by the class that the one and the other gave, added up over crops.

    Returns:
        How far they agree; the same whoever comes first.
    """
    total = int(counts.sum())
    shares = tuple(or_none(iou(counts)))
    if not total:
        return Agreement(0, None, None, shares)
    return Agreement(total, float(np.trace(counts)) / total, cohens_kappa(counts), shares)


def cohens_kappa(counts: Counts) -> float | None:
    """Tell how much of what chance leaves open two people agree on.

    Args:
        counts: (K, K) int64 pixels by the class that the one and the other gave.

    Returns:
        At most 1; 0 for what chance alone would give; None where chance alone agrees fully, or nothing was counted.

    Source: Cohen, A coefficient of agreement for nominal scales, Educ. Psychol. Meas. 20 (1960).
    """
    total = int(counts.sum())
    # Whole numbers: pixels squared pass 2**63 with some crops.
    by_chance = sum(int(a) * int(b) for a, b in zip(counts.sum(axis=1), counts.sum(axis=0), strict=True))
    left_open = total * total - by_chance
    return (int(np.trace(counts)) * total - by_chance) / left_open if left_open else None
