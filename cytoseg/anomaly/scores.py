"""Anomaly scores of a slide's pixels, and their counts."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cytoseg.maps.map_spool import CONFIDENCE, IDS, MapSpool

TEXTURE, SHAPE = "texture", "shape"
RANGES: Mapping[str, tuple[int, ...]] = {TEXTURE: (50, 83, 117, 150), SHAPE: (400, 467, 533, 600)}
"""Timesteps of each score, of 1000 on the linear schedule: low noise hides only fine texture, so dirt, ink, blur and
grain stand out; high noise hides everything except shapes."""
RESIDUAL = "residual"
"""How much anomalous parts change when the model redraws them, 0 to 1."""

EDGES = np.geomspace(1e-6, 1e3, 2049)
"""Bounds of the bins of a score: each is 1 % wide."""

Counts = Mapping[str, NDArray[np.int64]]
"""Pixels of each class in each bin, (K, bins), by score; a value beyond the bounds counts in the last bin before."""


def no_counts(classes: int) -> dict[str, NDArray[np.int64]]:
    """Return counts of zero, (classes, bins) for each score."""
    return {name: np.zeros((classes, len(EDGES) - 1), np.int64) for name in RANGES}


def count_scores(spool: MapSpool, *, classes: int) -> Counts:
    """Count the scores of a slide's computed pixels.

    Args:
        spool: The maps of the slide.
        classes: K.
    """
    counts = no_counts(classes)
    for name in RANGES:
        parts = (spool.strips(part) for part in (IDS, CONFIDENCE, name))
        for ids, confidence, scores in zip(*parts, strict=True):
            computed = confidence > 0
            bins = np.clip(np.searchsorted(EDGES, scores[computed], side="right") - 1, 0, len(EDGES) - 2)
            flat = np.bincount(ids[computed].astype(np.int64) * (len(EDGES) - 1) + bins, minlength=counts[name].size)
            counts[name] += flat.reshape(counts[name].shape)
    return counts


def add_counts(parts: Sequence[Counts]) -> Counts:
    """Add the counts of one or more slides."""
    return {name: np.sum([part[name] for part in parts], axis=0) for name in RANGES}
