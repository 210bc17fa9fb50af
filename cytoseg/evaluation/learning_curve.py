"""Learning curves: IoU by labelled crops, and the gain from more."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from cytoseg.csv_table import ENCODING, inert

MORE = 10
"""Number of additional crops for the predicted gain."""
TABLE = "label_efficiency.csv"
TESTED = ("test crops", "test crops corrected from a prediction")
"""Last columns of a study's table."""
MIN_COUNTS = 3
"""Any two points fit a line, so an extrapolation needs three."""
_MAX_COUNT = 10**6
"""A table with more training crops is damaged."""
_SURELY_NOT = 0.01
"""The log odds of 0 and 1 are infinite: the IoU is clipped this far from them."""


@dataclass(frozen=True)
class Curve:
    """Learning curve of one method.

    Attributes:
        title: Name of the method.
        counts: Numbers of training crops, ascending.
        iou: (counts, draws, K), NaN where undefined.
    """

    title: str
    counts: tuple[int, ...]
    iou: np.ndarray[tuple[int, int, int], np.dtype[np.float64]]


def worth(curve: Curve, k: int) -> tuple[float, float, float] | None:
    """Estimate the IoU gain of a class from ten more crops.

    Args:
        curve: Of one method.
        k: Class id.

    Returns:
        The mean over draws, the least and the greatest; None where there are too few points, see ``gain_between``. The
        extrapolated IoU never exceeds 1.
    """
    gains = gain_between(curve, k, curve.counts[-1], curve.counts[-1] + MORE)
    if gains is None:
        return None
    gains = np.minimum(gains, 1 - curve.iou[-1, :, k])
    return float(gains.mean()), float(gains.min()), float(gains.max())


def gain_between(curve: Curve, k: int, before: int, after: int) -> NDArray[np.float64] | None:
    """Extrapolate a class's IoU with a logistic curve over the logarithm of the number of crops.

    The result is always between 0 and 1. A line is fitted to the log odds of the IoU of each draw, from a quarter of
    all crops on.

    Args:
        curve: Of one method.
        k: Class id.
        before: Number of crops now.
        after: Number of crops later.

    Returns:
        (draws,) gains; None with fewer than ``MIN_COUNTS`` counts from a quarter of all crops on, or if the IoU is
        undefined.
    """
    counts = np.array(curve.counts, np.float64)
    late = counts >= counts[-1] / 4
    if late.sum() < MIN_COUNTS or np.isnan(curve.iou[late, :, k]).any():
        return None
    odds = logit(np.clip(curve.iou[late, :, k], _SURELY_NOT, 1 - _SURELY_NOT))
    slopes, heights = np.polyfit(np.log2(counts[late]), odds, 1)
    return np.asarray(
        expit(slopes * math.log2(after) + heights) - expit(slopes * math.log2(before) + heights), np.float64
    )


def read_curves(folder: Path, names: Sequence[str]) -> dict[str, Curve]:
    """Read the table of ``label_efficiency``.

    Args:
        folder: Folder with label_efficiency.csv.
        names: The class names wanted.

    Returns:
        A curve per method, by key; empty if the table is missing, damaged or has other classes.
    """
    rows = _rows(folder / TABLE)
    head = ["method", "crops", "draw", *map(inert, names)]
    if not rows or rows[0] not in (head, [*head, *TESTED]):
        return {}
    scores: dict[str, dict[tuple[int, int], list[float]]] = {}
    try:
        for key, crops, draw, *values in rows[1:]:
            scores.setdefault(key, {})[_count(crops), int(draw)] = [_score(v) for v in values[: len(names)]]
        if any(len(values) != len(names) for found in scores.values() for values in found.values()):
            return {}
        return {key: as_curve(key, found) for key, found in scores.items()}
    except (ValueError, KeyError):  # truncated or edited by hand
        return {}


def _rows(path: Path) -> list[list[str]]:
    """Read the rows of a table; none if it is missing or no table."""
    if not path.is_file():
        return []
    try:
        return list(csv.reader(io.StringIO(path.read_text(encoding=ENCODING, errors="replace"))))
    except csv.Error:  # a field of over 100,000 characters
        return []


def _count(text: str) -> int:
    count = int(text)
    if not 0 < count <= _MAX_COUNT:
        raise ValueError(f"{count} crops")
    return count


def _score(text: str) -> float:
    """Return an IoU, NaN if it is undefined."""
    score = float(text) if text else math.nan
    if text and not 0 <= score <= 1:
        raise ValueError(f"an IoU of {score}")
    return score


def as_curve(title: str, scores: Mapping[tuple[int, int], list[float]]) -> Curve:
    """Build a curve from the IoU per class by (crops, draw); every count needs every draw."""
    counts = tuple(sorted({count for count, _ in scores}))
    draws = sorted({number for _, number in scores})
    return Curve(title, counts, np.array([[scores[count, number] for number in draws] for count in counts]))
