"""Selection of generated pairs: of images with similar amounts of tissue, the least certain are dropped."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EMPTY_SHARE = 0.01
"""Images with less tissue than this are compared with each other only: bare glass is always certain."""
STRATA, MIN_IN_STRATUM = 4, 20
_TOP_SHARE = 0.1


@dataclass(frozen=True)
class GeneratedPair:
    """A generated image that the ensemble has labelled.

    Attributes:
        number: Number of the sample.
        uncertainty: Disagreement of the least certain pixels, in nats; see ``picture_uncertainty``.
        tissue: Fraction of its pixels that hold cells.
    """

    number: int
    uncertainty: float
    tissue: float


def picture_uncertainty(disagreement: NDArray[np.floating]) -> float:
    """Average the disagreement of an image's least certain tenth.

    Args:
        disagreement: (H, W) in nats.

    Source: DatasetDDPM in Baranchuk et al., Label-Efficient Semantic Segmentation with Diffusion Models, ICLR 2022.
    """
    count = max(1, round(disagreement.size * _TOP_SHARE))
    return float(np.partition(disagreement.ravel(), -count)[-count:].mean(dtype=np.float64))


def most_certain(pairs: Sequence[GeneratedPair], drop: float) -> list[GeneratedPair]:
    """Drop the least certain pairs within strata of tissue.

    Args:
        pairs: All pairs.
        drop: Fraction to drop, 0 to below 1; rounded down to whole pairs, so some always remain.

    Returns:
        The pairs kept, by number. Each stratum loses the same fraction, up to rounding.
    """
    strata = _strata(pairs)
    kept: list[GeneratedPair] = []
    for stratum, dropped in zip(strata, _quotas([len(s) for s in strata], drop), strict=True):
        certain_first = sorted(stratum, key=lambda pair: (pair.uncertainty, pair.number))
        kept += certain_first[: len(stratum) - dropped]
    return sorted(kept, key=lambda pair: pair.number)


def _strata(pairs: Iterable[GeneratedPair]) -> list[list[GeneratedPair]]:
    """Divide pairs into glass and up to four groups of equal size by tissue."""
    by_tissue = sorted(pairs, key=lambda pair: (pair.tissue, pair.number))
    empty = [pair for pair in by_tissue if pair.tissue < EMPTY_SHARE]
    others = by_tissue[len(empty) :]
    count = min(STRATA, max(1, len(others) // MIN_IN_STRATUM))
    bounds = np.linspace(0, len(others), count + 1).round().astype(int)
    groups = [others[first:last] for first, last in itertools.pairwise(bounds)]
    return [group for group in (empty, *groups) if group]


def _quotas(sizes: Sequence[int], drop: float) -> list[int]:
    """Distribute the whole number of dropped pairs over strata by largest remainder."""
    exact = np.array(sizes) * drop
    total = int(sum(sizes) * drop + 1e-9)  # .29 x 100 is 28.999... in floating point
    quotas = np.floor(exact + 1e-9).astype(int)
    for i in np.argsort(quotas - exact, kind="stable")[: total - int(quotas.sum())]:
        quotas[i] += 1
    return [int(quota) for quota in quotas]
