"""Splitting labelled crops into train and test by slide."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass

import numpy as np

from cytoseg.errors import LabelError
from cytoseg.labels.index import LabelledCrop
from cytoseg.patterns import fits, fitting
from cytoseg.slides.generated_mark import GeneratedMark


@dataclass(frozen=True)
class Split:
    """Training and test crops from disjoint slides."""

    train: tuple[LabelledCrop, ...]
    test: tuple[LabelledCrop, ...]


def split_by_slide(
    crops: Sequence[LabelledCrop], *, test_slides: Sequence[str], test_fraction: float, seed: int
) -> Split:
    """Split crops by slide.

    Crops that a diffusion model drew or edited are never test crops and do not change the draw. They are train crops,
    except those that show a test slide: these are on neither side.

    Args:
        crops: All labelled crops.
        test_slides: Names of the test slides, see `patterns.fitting`; if empty, they are drawn at random.
        test_fraction: Fraction of slides drawn for testing, 0 to 1: rounded, and at least one slide if there are two or
            more. Not used if ``test_slides`` are given.
        seed: Seed of the draw.

    Returns:
        Both sides, in the given order.

    Raises:
        LabelError: If a name matches no slide or only generated images, or a side would be empty.
    """
    real = [crop for crop in crops if crop.made is None]
    slides = sorted({crop.slide for crop in real})
    if test_slides:
        _refuse_generated(crops, slides, test_slides)
    test = _named(slides, test_slides) if test_slides else _drawn(slides, test_fraction, seed)
    tested = tuple(crop for crop in real if crop.slide in test)
    shows_test = _test_shown(tested, test, test_slides)
    split = Split(tuple(c for c in crops if c.slide not in test and not (c.made and shows_test(c, c.made))), tested)
    for side, found in (("train", split.train), ("test", split.test)):
        if not found:
            raise LabelError(
                f"the {side} side of the split is empty: {len(test)} of {len(slides)} slides are test "
                "slides. Label crops of more slides, or change the test slides."
            )
    return split


def _refuse_generated(crops: Sequence[LabelledCrop], slides: Sequence[str], patterns: Sequence[str]) -> None:
    """Refuse a name that only fits generated images.

    Raises:
        LabelError: If there is one.
    """
    made = sorted({crop.slide for crop in crops if crop.made is not None})
    for pattern in patterns:
        if not fitting(slides, pattern) and (found := fitting(made, pattern)):
            raise LabelError(
                f"test slides {pattern}: {min(found)} was drawn or edited by a diffusion model, and such images are "
                "never test crops. Name slides of real images."
            )


def _test_shown(
    tested: Sequence[LabelledCrop], test: Set[str], patterns: Sequence[str]
) -> Callable[[LabelledCrop, GeneratedMark], bool]:
    """Return a test for made crops that show a test slide, or are an edit of a test crop."""
    pictures = {crop.image_sha256 for crop in tested}

    def shows(crop: LabelledCrop, made: GeneratedMark) -> bool:
        named = any(fits(slide, patterns) for slide in (crop.slide, made.slide) if slide)
        return named or made.slide in test or (made.of != "" and made.of in pictures)

    return shows


def _named(slides: Sequence[str], patterns: Sequence[str]) -> set[str]:
    found = {pattern: fitting(slides, pattern) for pattern in patterns}
    missing = [pattern for pattern, fit in found.items() if not fit]
    if missing:
        known = ", ".join(slides[:20]) + (", ..." if len(slides) > 20 else "")
        raise LabelError(
            f"labels.test_slides: {', '.join(missing)}: no labelled slide has this name; there are {known}. Correct it."
        )
    return {slide for fit in found.values() for slide in fit}


def _drawn(slides: Sequence[str], fraction: float, seed: int) -> set[str]:
    count = int(fraction * len(slides) + 0.5)
    if len(slides) >= 2:
        count = max(1, count)
    order = np.random.default_rng(seed).permutation(len(slides))
    return {slides[i] for i in order[:count]}
