"""Candidate regions: disagreement, uncertain classes and appearance."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE
from cytoseg.records import RegionAsList
from cytoseg.slides.contrast import density

Appearance = tuple[float, ...]
"""Mean and standard deviation of each channel's optical density, then the fraction of each class."""


@dataclass(frozen=True)
class Candidate:
    """A region that could be annotated next.

    Attributes:
        slide: Its slide's id.
        region: Its position.
        score: Mean disagreement of its most uncertain tenth, in nats.
        usual: The same for the slide's median region that is not clear glass; 0 if there is none.
        class_shares: Fraction of each class among the pixels of that tenth.
        appearance: Its appearance, see ``Appearance``.
    """

    slide: str
    region: RegionAsList
    score: float
    usual: float
    class_shares: tuple[float, ...]
    appearance: Appearance


def highest_tenth(disagreement: NDArray[np.float32]) -> float:
    """Average the highest 10 % of the pixels: in a mean over all, glass would hide a few uncertain cells.

    Args:
        disagreement: (H, W) in nats.

    Returns:
        In nats.
    """
    highest_first = np.sort(disagreement, axis=None)[::-1]
    return float(highest_first[: math.ceil(highest_first.size / 10)].mean(dtype=np.float64))


def most_uncertain_classes(
    nats: NDArray[np.float32], class_map: NDArray[np.uint8], *, classes: int
) -> tuple[float, ...]:
    """Find the predicted classes where the ensemble disagrees most.

    Args:
        nats: (H, W) disagreement.
        class_map: (H, W) ids, 255 for ignore.
        classes: How many there are.

    Returns:
        Fraction of each class among the most uncertain tenth of the pixels, without pixels of no disagreement.
    """
    flat, ids = nats.ravel(), class_map.ravel()
    # Stable, so that ties are resolved equally on every machine.
    tenth = np.argsort(-flat, kind="stable")[: math.ceil(flat.size / 10)]
    return _shares(ids[tenth[flat[tenth] > 0]], classes)


def without_ignored(nats: NDArray[np.float32], class_map: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the disagreement (H, W) with 0 nats where nothing is predicted."""
    return np.where(class_map == IGNORE, np.float32(0), nats)


def appearance_of(picture: NDArray[np.uint8], class_map: NDArray[np.uint8], *, classes: int) -> Appearance:
    """Describe a region by its stain and predicted classes.

    Args:
        picture: (h, w, 3) uint8 RGB, of any size.
        class_map: (H, W) ids, 255 for ignore.
        classes: How many there are.
    """
    found = density(picture)
    stain = (*found.mean(axis=0), *found.std(axis=0))
    return tuple(round(float(value), 6) for value in (*stain, *_shares(class_map.ravel(), classes)))


def _shares(ids: NDArray[np.uint8], classes: int) -> tuple[float, ...]:
    counts = np.bincount(ids[ids != IGNORE], minlength=classes)[:classes]
    return tuple((counts / max(1, counts.sum())).tolist())
