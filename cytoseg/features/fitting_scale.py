"""The ``features.scale`` that suits objects of a size, without loading a network."""

import math
from collections.abc import Mapping
from typing import Any

from cytoseg.features.settings import SCALES

_MARGIN = 1.25
"""With cytology-base, whose largest size is 18 px, nuclei of lbc enlarged to 17 px are found as well as before, and
enlarged to 25 px they lose .09 IoU (tests/benchmarks/results/object_size.md)."""

KnownSizes = tuple[float, float]
"""Smallest and largest diameter of the objects that a network was trained on, in pixels."""


def known_sizes(state: Mapping[str, Any]) -> KnownSizes | None:
    """Read the sizes of the objects in a network's labelled sources.

    Args:
        state: The JSON state of its checkpoint.

    Returns:
        The sizes; None if they are unknown.
    """
    try:
        sources = state["recipe"]["labels"]["sources"]
        sizes = [(float(s["object_px"]), float(s["spread"])) for s in sources if s["object_px"] is not None]
    except (KeyError, TypeError):
        return None  # of an older version
    if not sizes:
        return None
    return min(px / spread for px, spread in sizes), max(px * spread for px, spread in sizes)


def fits(diameter_px: float, known: KnownSizes) -> bool:
    """Return whether a network finds objects of this diameter about as well as those it was trained on."""
    return known[0] / _MARGIN <= diameter_px <= known[1] * _MARGIN


def middle_px(known: KnownSizes) -> float:
    """Return the geometric mean of the known sizes."""
    return math.sqrt(known[0] * known[1])


def best_scale(diameter_px: float, known: KnownSizes) -> float:
    """Choose the scale for objects of this diameter: of those that make them fit, the one that changes the image least.

    If none does, it is the one that makes them closest to the middle of the known sizes.
    """
    fitting = [scale for scale in SCALES if fits(diameter_px * scale, known)]
    if fitting:
        return min(fitting, key=lambda scale: abs(math.log(scale)))
    return min(SCALES, key=lambda scale: abs(math.log(diameter_px * scale / middle_px(known))))
