"""Thresholds of anomaly scores by class, from normal slides."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.anomaly.scores import EDGES, RANGES, Counts
from cytoseg.errors import PredictionError
from cytoseg.records import RecordFile

SHARE = 0.025
"""Share of the normal pixels of a class that lies above its threshold."""
FEWEST_PX = 2000
"""A class with fewer normal pixels uses the threshold of all classes together: its own would depend on 50 pixels."""
THRESHOLDS = "thresholds.json"
COUNTS = "counts.json"


@dataclass(frozen=True)
class NormalSlide:
    """A normal slide: its file, and its computed pixels."""

    path: str
    pixels: int


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of a model.

    Attributes:
        classes: Class names.
        thresholds: Of each class, by score.
        slides: The normal slides they come from.
        model: Everything that determines the scores, as JSON.
    """

    classes: tuple[str, ...]
    thresholds: dict[str, tuple[float, ...]]
    slides: tuple[NormalSlide, ...]
    model: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in RANGES:
            found = self.thresholds.get(name, ())
            if len(found) != len(self.classes) or not all(EDGES[0] <= value <= EDGES[-1] for value in found):
                raise ValueError(f"the thresholds of {name} are not one positive number for each class")

    def ratio(self, scores: NDArray[np.float32], ids: NDArray[np.integer[Any]], name: str) -> NDArray[np.float32]:
        """Divide scores by the threshold of each pixel's class; above 1 is anomalous.

        Args:
            scores: (..., H, W).
            ids: (..., H, W) class ids; others, such as ignore, give 0.
            name: Name of the score.
        """
        table = np.zeros(256, np.float32)
        table[: len(self.classes)] = 1 / np.array(self.thresholds[name], np.float32)
        found: NDArray[np.float32] = scores * table[ids]
        return found


@dataclass(frozen=True)
class SavedCounts:
    """Counts of a normal slide: for each class the bins that are not empty, as pairs of number and pixels."""

    counts: dict[str, tuple[tuple[tuple[int, int], ...], ...]]


ADVICE = "Name normal slides again with --normal."
THRESHOLDS_FILE = RecordFile(Thresholds, PredictionError, ADVICE)
COUNTS_FILE = RecordFile(SavedCounts, PredictionError, ADVICE)


def thresholds_of(counts: Counts) -> dict[str, tuple[float, ...]]:
    """Find the 97.5th percentile of each score and class: the upper bound of its bin.

    Args:
        counts: Sum over all normal slides, at least one pixel.
    """
    found = {}
    for name, by_class in counts.items():
        whole = by_class.sum(axis=0)
        found[name] = tuple(_percentile(own if own.sum() >= FEWEST_PX else whole) for own in by_class)
    return found


def share_above(counts: Counts, thresholds: dict[str, tuple[float, ...]]) -> dict[str, float]:
    """Return the share of pixels above the threshold of their class, by score, to the accuracy of a bin."""
    shares = {}
    for name, by_class in counts.items():
        above = sum(int(own[EDGES[:-1] >= limit].sum()) for own, limit in zip(by_class, thresholds[name], strict=True))
        shares[name] = above / max(1, int(by_class.sum()))
    return shares


def _percentile(counts: NDArray[np.int64]) -> float:
    reached = np.cumsum(counts) >= (1 - SHARE) * counts.sum()
    return float(EDGES[int(reached.argmax()) + 1])


def pack_counts(counts: Counts) -> SavedCounts:
    """Return counts as they are saved."""
    return SavedCounts(
        {
            name: tuple(tuple((int(i), int(own[i])) for i in np.flatnonzero(own)) for own in by_class)
            for name, by_class in counts.items()
        }
    )


def read_counts(folder: Path, *, classes: int) -> Counts:
    """Read the counts of a normal slide.

    Raises:
        PredictionError: If the file is missing, damaged or of another number of classes.
    """
    try:
        saved = COUNTS_FILE.read(folder / COUNTS, name=f"{folder.name}/{COUNTS}").counts
    except FileNotFoundError as error:
        raise PredictionError(f"{folder}: {COUNTS} is missing. {ADVICE}") from error
    counts = {name: np.zeros((classes, len(EDGES) - 1), np.int64) for name in RANGES}
    for name, by_class in counts.items():
        pairs = saved.get(name, ())
        if len(pairs) != classes or any(not 0 <= i < len(EDGES) - 1 or n < 0 for own in pairs for i, n in own):
            raise PredictionError(f"{folder.name}/{COUNTS}: is damaged. Delete the folder and run the command again.")
        for class_id, own in enumerate(pairs):
            for i, n in own:
                by_class[class_id, i] = n
    return counts


def read_thresholds(folder: Path) -> Thresholds | None:
    """Read the saved thresholds; None if there are none.

    Raises:
        PredictionError: If the file is damaged.
    """
    try:
        return THRESHOLDS_FILE.read(folder / THRESHOLDS)
    except FileNotFoundError:
        return None
