"""Stains of slides, for scores by stain."""

from collections.abc import Iterable, Mapping, Sequence

from cytoseg.errors import LabelError
from cytoseg.patterns import fitting


def stains_of(slides: Iterable[str], patterns: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Look up the stain of each slide.

    Args:
        slides: Slide ids.
        patterns: Patterns of slide ids by stain, ``*`` and ``?`` allowed, see `patterns.fitting`.

    Returns:
        Stain by slide, for the slides that match a pattern.

    Raises:
        LabelError: If a slide matches the patterns of two stains.
    """
    found = {}
    names = sorted(set(slides))
    of_stain = {stain: {name for text in texts for name in fitting(names, text)} for stain, texts in patterns.items()}
    for slide in names:
        stains = [stain for stain, fit in of_stain.items() if slide in fit]
        if len(stains) > 1:
            raise LabelError(
                f"labels.stains: slide {slide} matches {' and '.join(stains)}. Change the patterns "
                "so that it matches one."
            )
        if stains:
            found[slide] = stains[0]
    return found
