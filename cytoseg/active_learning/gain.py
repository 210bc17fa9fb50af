"""Measured gain of queued regions, compared with the study's estimate."""

from collections.abc import Sequence

import numpy as np

from cytoseg.evaluation.learning_curve import Curve, gain_between
from cytoseg.labels.queue_file import Round, Scored

MEAN = "mean IoU"


def gain_sentences(
    rounds: Sequence[Round], now: Scored | None, *, curve: Curve | None, names: Sequence[str]
) -> list[str]:
    """Compare each queue round with the evaluation after it.

    Args:
        rounds: Rounds, oldest first.
        now: The current evaluation, if there is one.
        curve: The study's learning curve of the recipe's method, if available.
        names: The class names, in the order of the curve.

    Returns:
        For each round with an evaluation before and after it, a sentence on the crops and one for the mean and each
        class; for the last round also what is missing.
    """
    found = []
    for number, queued in enumerate(rounds):
        after = rounds[number + 1].before if number + 1 < len(rounds) else now
        found += _of_round(queued, after, curve, names)
    return found


def _of_round(queued: Round, after: Scored | None, curve: Curve | None, names: Sequence[str]) -> list[str]:
    head = f"Queued {queued.when}: {queued.regions} region{'s' * (queued.regions != 1)}"
    before = queued.before
    if before is None:
        return [f"{head}. The run had not been evaluated then, so there is nothing to compare with."]
    if after is None or after.created == before.created:
        return [
            f"{head}. Not evaluated since: correct them, then run label-import, train-interpreter and "
            "evaluate to see the gain."
        ]
    if after.train_crops <= before.train_crops:
        return [
            f"{head}. Evaluated since, but on no more train crops than then ({after.train_crops}): import the "
            "corrected files with label-import, and train."
        ]
    lines = [f"{head}. Trained on {before.train_crops} crops then and {after.train_crops} after:"]
    lines += _line(MEAN, before.miou, after.miou, _estimate(curve, None, before, after, reached=before.miou))
    for k, name in enumerate(names):
        estimate = _estimate(curve, k, before, after, reached=before.iou.get(name))
        lines += _line(f"IoU {name}", before.iou.get(name), after.iou.get(name), estimate)
    return lines


def _line(what: str, before: float | None, after: float | None, estimate: str) -> list[str]:
    if before is None or after is None:
        return []
    return [f"{what}: {before:.3f} before, {after:.3f} after ({after - before:+.3f}); {estimate}."]


def _estimate(curve: Curve | None, k: int | None, before: Scored, after: Scored, *, reached: float | None) -> str:
    """Return the study's estimate for the added crops, for a class or (None) the mean over classes."""
    classes = [] if curve is None else range(curve.iou.shape[2]) if k is None else [k]
    gains = [gain_between(curve, c, before.train_crops, after.train_crops) for c in classes if curve is not None]
    if not gains or any(gain is None for gain in gains):
        return "no estimate: `cytoseg study label-efficiency` with several --counts makes one"
    by_draw = np.minimum(np.mean([gain for gain in gains if gain is not None], axis=0), 1 - (reached or 0.0))
    return f"the study's estimate was {by_draw.mean():+.3f} ({by_draw.min():+.3f} to {by_draw.max():+.3f})"
