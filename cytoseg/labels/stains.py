"""Which slides have which stain, so that scores can be told apart by it."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from cytoseg.errors import LabelError


def stains_of(slides: Iterable[str], patterns: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Find the stain of each slide.

    Args:
        slides: Slide ids.
        patterns: Patterns of slide ids by stain, ``*`` and ``?`` allowed.

    Returns:
        Stain by slide, of those slides that fit a pattern.

    Raises:
        LabelError: If a slide fits the patterns of two stains.
    """
    found = {}
    for slide in sorted(set(slides)):
        fitting = [stain for stain, texts in patterns.items() if any(fnmatchcase(slide, text) for text in texts)]
        if len(fitting) > 1:
            raise LabelError(f"labels.stains: slide {slide} fits {' and '.join(fitting)}. Let it fit one.")
        if fitting:
            found[slide] = fitting[0]
    return found
