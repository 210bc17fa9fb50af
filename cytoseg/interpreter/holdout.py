"""Held-out slides per ensemble member (folds) and early stopping on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cytoseg.features.pixel_table import PixelTable
from cytoseg.interpreter.mlp import Ensemble, MemberCopies, member_losses
from cytoseg.seeds import generator_for, seed_for

MAX_FOLDS, MIN_SLIDES = 5, 5
CHECK_STEPS = 50
"""Steps between two evaluations on the held-out pixels."""
CHECK_PX = 1500
"""Pixels per evaluation and member."""


@dataclass(frozen=True)
class Folds:
    """The pixels that each member holds out: member m holds out fold m modulo the number of folds.

    Attributes:
        of_pixel: (P,) int64, the fold of each pixel of the table, -1 for none; pixels of one slide share a fold.
        count: Number of folds.
    """

    of_pixel: Tensor
    count: int

    def training_pixels(self, member: int) -> Tensor:
        """Return the indices of a member's training pixels, ascending int64."""
        return torch.nonzero(self.of_pixel != member % self.count)[:, 0]

    def held_out_pixels(self, member: int) -> Tensor:
        """Return the indices of a member's held-out pixels, ascending int64."""
        return torch.nonzero(self.of_pixel == member % self.count)[:, 0]


def fold_by_slide(table: PixelTable, slides: Sequence[str | None], *, seed: int) -> Folds | None:
    """Assign the slides to at most five folds.

    Args:
        table: The chosen pixels.
        slides: The slide of each crop; one with None is never held out.
        seed: Seed of the assignment.

    Returns:
        The folds; None if holding out a fold would cost too much: with fewer than ``MIN_SLIDES`` slides, or if a
        class occurs in one fold only, so that some members would never see it.
    """
    crops = np.unique(table.crops.numpy())
    names = sorted({slide for crop in crops if (slide := slides[crop]) is not None})
    if len(names) < MIN_SLIDES:
        return None
    count = min(MAX_FOLDS, len(names))
    order = np.random.default_rng(seed_for(seed, 0, what="folds")).permutation(len(names))
    fold_of = {names[i]: place % count for place, i in enumerate(order)}
    of_crop = torch.tensor([-1 if slide is None else fold_of.get(slide, -1) for slide in slides])
    folds = Folds(of_crop[table.crops], count)
    seen = [set(table.classes[folds.training_pixels(fold)].tolist()) for fold in range(count)]
    return folds if all(classes == seen[0] for classes in seen) else None


class BestWeights:
    """Keeps each member's weights from the step with the lowest held-out loss.

    Args:
        ensemble: The ensemble in training.
        table: The chosen pixels.
        folds: Assignment of pixels to folds.
        seed: Seed of the choice of evaluation pixels.
    """

    def __init__(self, ensemble: Ensemble, table: PixelTable, folds: Folds, *, seed: int) -> None:
        held = [folds.held_out_pixels(m) for m in range(ensemble.members)]
        count = min(CHECK_PX, *(len(pixels) for pixels in held))
        generator = generator_for(seed, 0, what="held out")
        chosen = torch.stack([pixels[torch.randperm(len(pixels), generator=generator)[:count]] for pixels in held])
        device = ensemble.weight1.device
        self._features = table.features[chosen].to(device)
        self._classes = table.classes[chosen].to(device)
        self._ensemble, self._copies = ensemble, MemberCopies(ensemble)
        self._least = torch.full((ensemble.members,), float("inf"), device=device)
        self.steps = [0] * ensemble.members

    @torch.no_grad()
    def check(self, step: int) -> None:
        """Evaluate the members after a step and keep those that improved."""
        self._ensemble.eval()
        numbers = torch.arange(self._classes.shape[1])
        logits = [self._ensemble(self._features[:, block].float()) for block in self._ensemble.blocks(numbers)]
        losses = member_losses(torch.cat(logits, dim=1), self._classes)
        self._ensemble.train()
        better = losses < self._least
        self._least = torch.where(better, losses, self._least)
        self._copies.keep(better)
        self.steps = [step if now else best for now, best in zip(better.tolist(), self.steps, strict=True)]

    def restore(self) -> None:
        """Restore each member's best weights."""
        self._copies.restore()
