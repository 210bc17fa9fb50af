"""Mean teacher: semi-supervised loss on unlabelled slides."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import (
    RandAdjustContrastd,
    RandGaussianSmoothd,
    RandScaleIntensityFixedMeand,
    RandStdShiftIntensityd,
)
from torch import Tensor, nn

from cytoseg.devices import autocast
from cytoseg.seeds import seed_for
from cytoseg.slides.fast_transforms import PlainCompose

CONFIDENT = 0.8
"""Confidence threshold: only pixels whose top class is more probable contribute."""
RAMP = (0.2, 0.4)
"""Fractions of the training between which the weight of unlabelled parts ramps up: earlier, the teacher is poor."""
_CUT_SHARE = (0.3, 0.7)


@dataclass(frozen=True)
class Unlabelled:
    """Unlabelled slides and the weight of their loss.

    Attributes:
        crop: Returns crop i, (3, size, size) float32 in [-1, 1], as a function of i alone.
        weight: Weight of their loss relative to the labelled crops.
    """

    crop: Callable[[int], Tensor]
    weight: float


class UnlabelledParts:
    """Draws the unlabelled parts of a step as a function of the seed and the step alone.

    Args:
        unlabelled: The unlabelled slides.
        batch: B, parts per step.
        seed: Seed of the augmentation.
    """

    def __init__(self, unlabelled: Unlabelled, *, batch: int, seed: int) -> None:
        self._crop, self._batch, self._seed = unlabelled.crop, batch, seed
        self._strong = PlainCompose(
            [
                RandAdjustContrastd("picture", prob=0.8, gamma=(0.6, 1.6)),
                RandScaleIntensityFixedMeand("picture", prob=0.8, factors=0.3),
                RandStdShiftIntensityd("picture", prob=0.8, factors=0.5, channel_wise=True),
                RandGaussianSmoothd("picture", prob=0.5, sigma_x=(0.3, 1.2), sigma_y=(0.3, 1.2)),
            ]
        )

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a step's parts.

        Returns:
            The original parts, (B, 3, H, W) float32 in [-1, 1]; the same with strong colour and blur augmentation; and
            the CutMix rectangles, (B, H, W) bool, to be filled from the next part.
        """
        weak = torch.stack([self._crop(step * self._batch + i) for i in range(self._batch)])
        self._strong.set_random_state(seed_for(self._seed, step, what="strong changes"))
        changed = [self._strong({"picture": part.clone()})["picture"] for part in weak]
        return weak, torch.stack(changed).float(), self._rectangles(step, weak.shape[-2:])

    def _rectangles(self, step: int, size: torch.Size) -> Tensor:
        rng = np.random.default_rng(seed_for(self._seed, step, what="pasted parts"))
        inside = torch.zeros(self._batch, *size, dtype=torch.bool)
        for rectangle in inside:
            height, width = (max(1, int(side * rng.uniform(*_CUT_SHARE))) for side in size)
            y, x = int(rng.integers(size[0] - height + 1)), int(rng.integers(size[1] - width + 1))
            rectangle[y : y + height, x : x + width] = True
        return inside


def ramp_at(step: int, steps: int) -> float:
    """Return the fraction of the full weight at a step: first 0, then a linear ramp to 1."""
    begin, end = RAMP
    return min(1.0, max(0.0, (step / steps - begin) / (end - begin)))


def teacher_loss(
    student: nn.Module, teacher: nn.Module, parts: tuple[Tensor, Tensor, Tensor], *, precision: str
) -> Tensor:
    """Compute the consistency loss between the student on augmented parts and the teacher on the originals.

    The teacher's probabilities are the mean of the part and its mirror image. Part i takes pixels and targets of part i
    + 1 inside its rectangle (CutMix).

    Args:
        student: The trained network, from (N, 3, H, W) to (N, K, H, W) logits.
        teacher: Its weight average; receives no gradient.
        parts: From ``UnlabelledParts``, on the device of the networks.
        precision: ``no`` (fp32) or ``bf16`` for the networks.

    Returns:
        The cross entropy of the confident pixels, averaged over all pixels; scalar.

    Source: Tarvainen and Valpola, Mean teachers, NeurIPS 2017; Yun et al., CutMix, ICCV 2019.
    """
    weak, strong, inside = parts
    with autocast(weak.device, precision):
        with torch.no_grad():
            seen = teacher(weak).softmax(1) + teacher(weak.flip(3)).softmax(1).flip(3)
        scores = student(torch.where(inside[:, None], strong.roll(-1, 0), strong))
    right = torch.where(inside[:, None], seen.roll(-1, 0), seen) / 2.0
    probability, likeliest = right.max(1)
    errors = F.cross_entropy(scores.float(), likeliest, reduction="none")
    return (errors * (probability > CONFIDENT)).mean()
