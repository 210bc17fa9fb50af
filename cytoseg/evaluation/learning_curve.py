"""How the IoU of a method grows with the labelled crops, as ``label_efficiency`` found it, and what more are worth."""

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
"""The sentence says what so many more crops are worth."""
TABLE = "label_efficiency.csv"
TESTED = ("test crops", "test crops corrected from a prediction")
"""Last columns of a study's table: what nobody touched in a corrected crop agrees with the model."""
LEAST_COUNTS = 3
"""Through two points any line goes: it takes a third to promise anything."""
_SURELY_NOT = 0.01
"""Log odds of 0 and 1 are infinite: an IoU nearer to them is taken for this near."""


@dataclass(frozen=True)
class Curve:
    """How one method grows.

    Attributes:
        title: Of the method.
        counts: How many crops it learnt from, rising.
        iou: (counts, draws, K), NaN where a class does not apply.
    """

    title: str
    counts: tuple[int, ...]
    iou: np.ndarray[tuple[int, int, int], np.dtype[np.float64]]


def worth(curve: Curve, k: int) -> tuple[float, float, float] | None:
    """Estimate what ten more crops add to a class's IoU, from its growth with the logarithm of the crops.

    Args:
        curve: Of one method.
        k: Class id.

    Returns:
        The mean over draws, the least and the greatest; None where there are too few points, see ``gain_between``. What
        was reached and what is promised never add up to more than 1.
    """
    gains = gain_between(curve, k, curve.counts[-1], curve.counts[-1] + MORE)
    if gains is None:
        return None
    gains = np.minimum(gains, 1 - curve.iou[-1, :, k])
    return float(gains.mean()), float(gains.min()), float(gains.max())


def gain_between(curve: Curve, k: int, before: int, after: int) -> NDArray[np.float64] | None:
    """Estimate what more crops add to a class's IoU: a logistic curve over the logarithm of the crops.

    It can promise neither more than 1 nor less than 0. A straight line through the IoU's log odds is fitted to each
    draw, from a quarter of all crops on.

    Args:
        curve: Of one method.
        k: Class id.
        before: How many crops there are.
        after: How many there will be.

    Returns:
        (draws,) gains; None with fewer than ``LEAST_COUNTS`` counts from a quarter of all crops on, or where the class
        does not apply.
    """
    counts = np.array(curve.counts, np.float64)
    late = counts >= counts[-1] / 4
    if late.sum() < LEAST_COUNTS or np.isnan(curve.iou[late, :, k]).any():
        return None
    odds = logit(np.clip(curve.iou[late, :, k], _SURELY_NOT, 1 - _SURELY_NOT))
    slopes, heights = np.polyfit(np.log2(counts[late]), odds, 1)
    return np.asarray(
        expit(slopes * math.log2(after) + heights) - expit(slopes * math.log2(before) + heights), np.float64
    )


def read_curves(folder: Path, names: Sequence[str]) -> dict[str, Curve]:
    """Read back the table of ``label_efficiency``.

    Args:
        folder: With label_efficiency.csv.
        names: The class names wanted.

    Returns:
        A curve per method, by key, titled by it; none if there is no table, it is damaged, or of other classes.
    """
    path = folder / TABLE
    rows = list(csv.reader(io.StringIO(path.read_text(encoding=ENCODING, errors="replace")))) if path.is_file() else []
    head = ["method", "crops", "draw", *map(inert, names)]
    if not rows or rows[0] not in (head, [*head, *TESTED]):
        return {}
    scores: dict[str, dict[tuple[int, int], list[float]]] = {}
    try:
        for key, crops, draw, *values in rows[1:]:
            scores.setdefault(key, {})[int(crops), int(draw)] = [
                float(v) if v else math.nan for v in values[: len(names)]
            ]
        return {key: as_curve(key, found) for key, found in scores.items()}
    except (ValueError, KeyError):  # cut short, or changed by hand
        return {}


def as_curve(title: str, scores: Mapping[tuple[int, int], list[float]]) -> Curve:
    """Put the IoU of each class by (crops, draw) together; every count needs every draw."""
    counts = tuple(sorted({count for count, _ in scores}))
    draws = sorted({number for _, number in scores})
    return Curve(title, counts, np.array([[scores[count, number] for number in draws] for count in counts]))
