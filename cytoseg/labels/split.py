"""Splitting labelled crops into train and test by slide."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cytoseg.errors import LabelError
from cytoseg.labels.index import LabelledCrop
from cytoseg.patterns import fitting


@dataclass(frozen=True)
class Split:
    """Training and test crops from disjoint slides."""

    train: tuple[LabelledCrop, ...]
    test: tuple[LabelledCrop, ...]


def split_by_slide(
    crops: Sequence[LabelledCrop], *, test_slides: Sequence[str], test_fraction: float, seed: int
) -> Split:
    """Split crops by slide.

    Args:
        crops: All labelled crops.
        test_slides: Names of the test slides, see `patterns.fitting`; if empty, they are drawn at random.
        test_fraction: Fraction of slides drawn for testing, 0 to 1: rounded, and at least one slide if there are two or
            more. Not used if ``test_slides`` are given.
        seed: Seed of the draw.

    Returns:
        Both sides, in the given order.

    Raises:
        LabelError: If a name matches no slide, or a side would be empty.
    """
    slides = sorted({crop.slide for crop in crops})
    test = _named(slides, test_slides) if test_slides else _drawn(slides, test_fraction, seed)
    split = Split(
        tuple(crop for crop in crops if crop.slide not in test), tuple(crop for crop in crops if crop.slide in test)
    )
    for side, found in (("train", split.train), ("test", split.test)):
        if not found:
            raise LabelError(
                f"the {side} side of the split is empty: {len(test)} of {len(slides)} slides are test "
                "slides. Label crops of more slides, or change the test slides."
            )
    return split


def _named(slides: Sequence[str], patterns: Sequence[str]) -> set[str]:
    found = {pattern: fitting(slides, pattern) for pattern in patterns}
    missing = [pattern for pattern, fit in found.items() if not fit]
    if missing:
        known = ", ".join(slides[:20]) + (", ..." if len(slides) > 20 else "")
        raise LabelError(f"test slides {', '.join(missing)}: no such slide among ({known}). Correct the name.")
    return {slide for fit in found.values() for slide in fit}


def _drawn(slides: Sequence[str], fraction: float, seed: int) -> set[str]:
    count = int(fraction * len(slides) + 0.5)
    if len(slides) >= 2:
        count = max(1, count)
    order = np.random.default_rng(seed).permutation(len(slides))
    return {slides[i] for i in order[:count]}
