"""Searching samples for copies of the crops that a model was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from cytoseg.checkpoints import crops_seen_of, find_checkpoints
from cytoseg.evaluation.generative_features import filter_features
from cytoseg.evaluation.generative_scores import Features, count_copies
from cytoseg.recipe import Recipe
from cytoseg.slides.tissue_sources import SlideSource
from cytoseg.terminal import progress
from cytoseg.workflows.training_crops import crops_of, cut_crops

MAX_SEARCHED = 20_000
"""Training crops among which copies are searched: minutes on one core."""
_TOGETHER = 64
_TINY = 1e-6


@dataclass(frozen=True)
class CopySearch:
    """The first crops of a training, described by generic filters, in which copies are found.

    Mean and standard deviation of a filter over an image do not change when it is flipped or turned by a quarter, so
    copies are found in any of the orientations that a training can show.

    Attributes:
        features: (M, D) of crops 0 to M - 1.
        seen: Crops that the model has seen.
    """

    features: Features
    seen: int

    @property
    def searched(self) -> int:
        """Number of crops among which copies are searched."""
        return len(self.features)

    def copies(self, pictures: Tensor) -> int:
        """Count the copies of these crops among (N, C, H, W) images in [-1, 1]."""
        mean, scale = self.features.mean(0), np.maximum(self.features.std(0), _TINY)
        made = (filter_features(pictures)[0] - mean) / scale
        return count_copies(made, (self.features - mean) / scale)


def search_copies_of(recipe: Recipe, sources: Sequence[SlideSource], folder: Path) -> CopySearch:
    """Compute the features of the crops that the run's model has seen, at most ``MAX_SEARCHED``.

    Args:
        recipe: The recipe of the training.
        sources: Its slides.
        folder: The run folder; without a checkpoint in it the recipe tells the number of crops.
    """
    checkpoints = find_checkpoints(folder / "ddpm")
    seen = crops_seen_of(checkpoints[0]) if checkpoints else recipe.training.crops
    searched = min(seen, MAX_SEARCHED)
    parts = []
    with progress("training crops", searched) as bar, crops_of(recipe, sources) as crop:
        for first in range(0, searched, _TOGETHER):
            count = min(_TOGETHER, searched - first)
            parts.append(filter_features(cut_crops(recipe, crop, first=first, count=count))[0])
            bar.update(first + count)
    return CopySearch(np.concatenate(parts), seen)
