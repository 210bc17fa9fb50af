"""Distillation of an ensemble or decoder into a small, fast network."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.classes import IGNORE
from cytoseg.devices import autocast
from cytoseg.features.extract import to_input
from cytoseg.interpreter.labelled_training import Batch, apply_gradients, training_steps
from cytoseg.interpreter.part_draw import part_px, random_transform
from cytoseg.interpreter.student import Student
from cytoseg.interpreter.tune_state import Resume, TuneState
from cytoseg.seeds import seed_for

BATCH, SIZE_PX, RATE = 16, 96, 2e-3
BLURRED = 0.25
UNCERTAINTY_WEIGHT = 1.0
_MIN_SHARE = 1e-4
TRUTH_SHARE = 0.5
"""Weight of the label in the target of a labelled pixel; the rest is the teacher's."""


@dataclass(frozen=True)
class Lesson:
    """One image with the teacher's prediction.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        probabilities: (K, H, W) float16.
        disagreement: (H, W) float16 in nats.
        label_map: (H, W) uint8 ids, 255 for ignore; None for an unlabelled image.
    """

    picture: NDArray[np.uint8]
    probabilities: NDArray[np.float16]
    disagreement: NDArray[np.float16]
    label_map: NDArray[np.uint8] | None = None

    def target(self) -> Tensor:
        """Return the target, (K + 1, H, W) float32: probabilities mixed with the label where labelled; nats."""
        right = torch.from_numpy(self.probabilities.astype(np.float32))
        if self.label_map is not None:
            labels = torch.from_numpy(self.label_map.astype(np.int64))
            labelled = (labels != IGNORE)[None]
            truth = F.one_hot(torch.where(labels == IGNORE, 0, labels), len(right)).permute(2, 0, 1).float()
            right = torch.where(labelled, TRUTH_SHARE * truth + (1 - TRUTH_SHARE) * right, right)
        return torch.cat([right, torch.from_numpy(self.disagreement.astype(np.float32))[None]])


def distil(
    student: Student,
    lessons: Sequence[Lesson],
    *,
    steps: int,
    seed: int,
    device: torch.device,
    precision: str,
    resume: Resume | None = None,
    on_step: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Student:
    """Train the student on augmented random parts.

    The rate and the first moment's decay of AdamW follow one cycle (see ``_set_cycle``).

    Args:
        student: The student; trained in place.
        lessons: At least one.
        steps: Optimiser updates.
        seed: Seed of the random parts.
        device: Training device.
        precision: ``no`` (fp32) or ``bf16`` for the network.
        resume: Where to store the state for resuming after an interruption; None stores nothing.
        on_step: Called with the step and its loss.

    Returns:
        The student in evaluation mode.

    Raises:
        CheckpointError: If the loss is not finite, or the state cannot be written.
        KeyboardInterrupt: After the current step, when Ctrl-C was pressed.

    Source: Hinton et al., Distilling the knowledge in a neural network, 2015.
    """
    student.add_norms()
    student.to(device).train()
    state = TuneState(student, None, torch.optim.AdamW(student.parameters(), lr=RATE))
    if resume is not None:
        resume.restore(state)
    change = random_transform(part_px(SIZE_PX, (lesson.picture.shape[:2] for lesson in lessons)), BLURRED)
    weights = _class_weights(lessons).to(device)
    draw = partial(_parts, lessons, change, seed)
    update = partial(_update, weights=weights, steps=steps, precision=precision)
    for step, loss in training_steps(state, draw, update, steps=steps, resume=resume):
        on_step(step, loss)
    if resume is not None:
        resume.forget()
    student.fold_norms()
    student.undo_weights(weights)
    return student.eval()


def _update(state: TuneState[Student], batch: Batch, *, weights: Tensor, steps: int, precision: str) -> float:
    """Update from (B, 3, size, size) images and (B, K + 1, size, size) targets; return the loss."""
    x, target = (part.to(weights.device) for part in batch)
    with autocast(weights.device, precision):
        found = state.network(x)
    loss = _loss(found, target, weights)
    _set_cycle(state.optimiser, state.step, steps)
    state.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call] # torch's annotation is missing
    return apply_gradients(state, loss, what="student", advice="Train its teacher again.")


def _set_cycle(optimiser: torch.optim.Optimizer, step: int, steps: int) -> None:
    """Set rate and momentum of a step, as ``OneCycleLR`` does with its defaults and a tenth of the steps to rise.

    The rate rises from 1/25 of its highest value and falls to 1/250,000 of it, along cosines; the momentum does the
    reverse between .95 and .85. A function of the step, so that a resumed training needs no scheduler's state.
    """
    turn, last = 0.1 * steps - 1.0, steps - 1.0
    low, high = RATE / 25.0, RATE
    if step < turn:
        share, begin, end = step / turn, (low, 0.95), (high, 0.85)
    else:
        share, begin, end = (step - turn) / (last - turn), (high, 0.85), (low / 1e4, 0.95)
    rate, momentum = (b + (a - b) * 0.5 * (1.0 + math.cos(math.pi * share)) for a, b in zip(begin, end, strict=True))
    for group in optimiser.param_groups:
        group["lr"], group["betas"] = rate, (momentum, group["betas"][1])


def _class_weights(lessons: Sequence[Lesson]) -> Tensor:
    """Weight each class by one over the square root of the fraction that the teacher gives it, so that rare ones count.

    Returns:
        (K,) float32; 1 on average over all pixels, so that the disagreement keeps its part of the loss.
    """
    shares = torch.from_numpy(np.mean([lesson.probabilities.mean((1, 2), np.float64) for lesson in lessons], axis=0))
    weights = shares.clamp_min(_MIN_SHARE).rsqrt()
    return (weights / (shares * weights).sum()).float()


def _parts(lessons: Sequence[Lesson], change: Callable[..., dict[str, Tensor]], seed: int, step: int) -> Batch:
    """Draw a step's (B, 3, size, size) images and (B, K + 1, size, size) targets."""
    rng = np.random.default_rng(seed_for(seed, step, what="lessons"))
    change.set_random_state(seed_for(seed, step, what="changes"))  # type: ignore[attr-defined] # MONAI's Compose
    drawn = [lessons[int(i)] for i in rng.integers(0, len(lessons), BATCH)]
    parts = [change({"picture": to_input(d.picture[None])[0], "labels": d.target()}) for d in drawn]
    images, targets = (torch.stack([part[key].float() for part in parts]) for key in ("picture", "labels"))
    return images, targets


def _loss(found: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy with soft targets plus squared error of the disagreement; padded pixels are ignored."""
    inside = (target[:, 0] <= 1.0).float()
    errors = -(weights[:, None, None] * target[:, :-1] * found[:, :-1].log_softmax(1)).sum(1)
    errors = errors + UNCERTAINTY_WEIGHT * (found[:, -1] - target[:, -1]).square()
    loss: Tensor = (errors * inside).sum() / inside.sum().clamp_min(1.0)
    return loss
