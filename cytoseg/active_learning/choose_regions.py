"""Selecting uncertain regions that are diverse in slide and appearance.

Greedy selection of the candidate with the highest worth:

    worth = score / (1 + regions chosen from its slide before) x (1 - exp(-d²))

The division distributes the list over slides in proportion to the disagreement of their regions, as d'Hondt's rule
distributes seats: a slide is chosen twice before another is chosen once only if its next region has more than twice
the disagreement. d is the distance in appearance to the nearest chosen region, in standard deviations over all
candidates (root mean square over the parts of ``Appearance``): an identical region has no worth, one at a distance of
one standard deviation 63 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytoseg.geometry import Region
from cytoseg.predict.candidate_regions import Appearance, Candidate

UNLIKE, ALIKE = 1.0, 0.5
"""Distances above which a region is described as different, and below which as similar."""
MIN_SHARE = 0.1
"""A class with a smaller fraction of the uncertain pixels is not named, unless all have less."""


@dataclass(frozen=True)
class Earlier:
    """A region chosen by an earlier call."""

    slide: str
    appearance: Appearance


@dataclass(frozen=True)
class SelectedCandidate:
    """A selected candidate.

    Attributes:
        candidate: The candidate.
        distance: Distance to the nearest earlier selection, in standard deviations of appearance; None for the first.
        of_slide: Number of earlier selections from its slide.
    """

    candidate: Candidate
    distance: float | None
    of_slide: int


def choose(candidates: Sequence[Candidate], n: int, *, earlier: Sequence[Earlier] = ()) -> list[SelectedCandidate]:
    """Choose what to annotate next.

    Args:
        candidates: The candidates; of two that overlap at most one is chosen.
        n: Number to choose; fewer if there are not enough.
        earlier: Earlier selections that are not annotated yet.

    Returns:
        The selection, best first, independent of the order of the candidates.
    """
    if not candidates:
        return []
    # Ties by slide and position.
    left = sorted(candidates, key=lambda c: (-c.score, c.slide, c.region.y, c.region.x))
    known = [e for e in earlier if len(e.appearance) == len(left[0].appearance)]
    appearances = _standardised([c.appearance for c in left], [e.appearance for e in known])
    nearest = np.full(len(left), np.inf)
    for old in appearances[len(left) :]:
        nearest = np.minimum(nearest, _distances(appearances[: len(left)], old))
    slides = sorted({c.slide for c in left} | {e.slide for e in earlier})
    number = {slide: i for i, slide in enumerate(slides)}
    slide_of = np.array([number[c.slide] for c in left])
    used = np.array([sum(e.slide == slide for e in earlier) for slide in slides])
    scores, free = np.array([c.score for c in left]), np.ones(len(left), np.bool_)
    found: list[SelectedCandidate] = []
    while len(found) < n and free.any():
        fair = np.where(free, scores / (1 + used[slide_of]), -1.0)
        # If all remaining candidates look like selected ones, the score per slide decides as the second key.
        worth = fair * np.where(free, -np.expm1(-(nearest**2)), 1.0)
        best = int(np.lexsort((-fair, -worth))[0])
        chosen, distance, slide = left[best], float(nearest[best]), slide_of[best]
        found.append(SelectedCandidate(chosen, None if np.isinf(distance) else distance, int(used[slide])))
        used[slide] += 1
        for i in np.flatnonzero(free & (slide_of == slide)):
            free[i] = not overlapping(left[i].region, chosen.region)
        nearest = np.minimum(nearest, _distances(appearances[: len(left)], appearances[best]))
    return found


def overlapping(a: Region, b: Region) -> bool:
    """Return whether two regions of a slide share a pixel."""
    return a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + b.height and b.y < a.y + a.height


def reason(chosen: SelectedCandidate, names: Sequence[str]) -> str:
    """Explain in one sentence why a region was chosen.

    Args:
        chosen: From ``choose``.
        names: The class names.
    """
    candidate = chosen.candidate
    shares = sorted(zip(candidate.class_shares, names, strict=True), key=lambda pair: -pair[0])
    named = [pair for pair in shares if pair[0] >= MIN_SHARE] or shares[:1]
    about = [f"{name} ({100 * share:.0f} %)" for share, name in named[:3]]
    parts = [
        f"The ensemble disagrees on {' or '.join(about)}: {candidate.score:.2f} nats in the most "
        f"uncertain tenth of this region, {candidate.usual:.2f} in the slide's median region",
        _slide_text(chosen.of_slide),
    ]
    if chosen.distance is not None and chosen.distance >= UNLIKE:
        parts.append("looks different from those chosen before")
    elif chosen.distance is not None and chosen.distance < ALIKE:
        parts.append("looks similar to one chosen before, but the disagreement is higher than in the others")
    return "; ".join(parts) + "."


def _slide_text(before: int) -> str:
    if not before:
        return "the first of its slide"
    return f"{before} {'is' if before == 1 else 'are'} already chosen from its slide"


def _standardised(appearances: Sequence[Appearance], earlier: Sequence[Appearance]) -> NDArray[np.float64]:
    """Standardise to mean 0 and standard deviation 1 over the candidates; constant features are ignored."""
    values = np.array([*appearances, *earlier], np.float64)
    own = values[: len(appearances)]
    spread = own.std(axis=0)
    found: NDArray[np.float64] = np.zeros_like(values)
    np.divide(values - own.mean(axis=0), spread, out=found, where=spread > 1e-9)
    return found


def _distances(appearances: NDArray[np.float64], one: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(((appearances - one) ** 2).mean(axis=1)), np.float64)
