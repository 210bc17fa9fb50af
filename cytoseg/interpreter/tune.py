"""Fine-tuning the decoder on the labelled crops."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytoseg.classes import IGNORE
from cytoseg.devices import autocast
from cytoseg.features.extract import to_input
from cytoseg.interpreter.decoder import Decoder
from cytoseg.interpreter.labelled_training import (
    LabelledPictures,
    apply_gradients,
    is_check,
    labelled_parts,
    new_state,
    set_rates,
    training_steps,
)
from cytoseg.interpreter.mean_teacher import Unlabelled, UnlabelledParts, ramp_at, teacher_loss
from cytoseg.interpreter.part_draw import class_weights
from cytoseg.interpreter.settings import TuneSettings
from cytoseg.interpreter.tune_state import Resume, TuneState
from cytoseg.seeds import generator_for

HELD_SHARE = 5
"""One in this many slides is held out."""
MIN_SLIDES = 10
"""With fewer labelled slides early stopping holds none out."""
MIN_STEPS = 400
"""Minimum number of steps for any number of crops."""
_LATE = ("unet.ups", "unet.final_res_block", "head")
_NOT_FINITE = (
    "The diffusion model's weights are damaged (move its newest checkpoint away to use an older one), or decoder.rate "
    "is too high."
)


@dataclass(frozen=True)
class Tuned:
    """Result of a training.

    Attributes:
        decoder: The decoder with averaged weights, in evaluation mode.
        step: Step of these weights.
        held_out: Slides that determined the step; empty if none was held out.
    """

    decoder: Decoder
    step: int
    held_out: tuple[str, ...]


def tune_decoder(
    decoder: Decoder,
    labelled: LabelledPictures,
    *,
    settings: TuneSettings,
    device: torch.device,
    unlabelled: Unlabelled | None = None,
    resume: Resume | None = None,
    on_step: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Tuned:
    """Fine-tune on augmented parts of the labelled crops.

    AdamW with cross entropy, classes weighted by one over the square root of their fraction, without ignored pixels. An
    average of the weights is kept, and its probabilities are corrected for the class weights. With early stopping it is
    that of the step with the lowest loss on held-out slides.

    Args:
        decoder: The initial decoder; trained in place.
        labelled: The crops.
        settings: How to tune.
        device: Training device.
        unlabelled: Unlabelled slides for the mean teacher loss; None disables it.
        resume: Where to store the state for resuming after an interruption; None stores nothing.
        on_step: Called with the step and its loss.

    Raises:
        LabelError: If no pixel is labelled.
        CheckpointError: If the state cannot be written.
        KeyboardInterrupt: After the current step, when Ctrl-C was pressed.
    """
    settings = replace(settings, steps=steps_of(labelled, settings), size_px=labelled.part_px(settings.size_px))
    weights = class_weights(labelled.label_maps, decoder.classes).to(device)
    held = _held_out(labelled, settings)
    trained_on = labelled.only([i for i, slide in enumerate(labelled.slides) if slide not in held])
    judged = labelled.only([i for i, slide in enumerate(labelled.slides) if slide in held])
    state = _new_state(decoder, settings, device)
    if resume is not None:
        resume.restore(state)
    taught = None
    if unlabelled is not None:
        taught = _MeanTeacher(UnlabelledParts(unlabelled, batch=settings.batch, seed=settings.seed), unlabelled.weight)

    def update(state: TuneState[Decoder], batch: tuple[Tensor, Tensor]) -> float:
        return _update(state, batch, weights, settings, taught)

    parts = labelled_parts(trained_on, settings)
    for step, loss in training_steps(state, parts, update, steps=settings.steps, resume=resume):
        on_step(step, loss)
        if held and is_check(step, settings.steps):
            state.best.offer(step, _loss_of(state.averaged, judged, weights, settings.precision), state.averaged)
    averaged = state.averaged
    if state.best.weights:
        averaged.load_state_dict(state.best.weights)
    averaged.undo_weights(torch.where(weights > 0, weights, 1.0))
    averaged.rule_out(torch.nonzero(weights == 0)[:, 0].tolist())
    if resume is not None:
        resume.forget()
    return Tuned(averaged.eval(), state.best.step or settings.steps, held)


@dataclass(frozen=True)
class _MeanTeacher:
    """Mean teacher data: parts of unlabelled slides, and their full weight."""

    parts: UnlabelledParts
    weight: float

    def backward(self, state: TuneState[Decoder], settings: TuneSettings, device: torch.device) -> None:
        """Accumulate the gradient of the unlabelled parts of the current step."""
        weight = self.weight * ramp_at(state.step, settings.steps)
        if weight == 0:
            return
        weak, strong, inside = (part.to(device) for part in self.parts(state.step))
        loss = weight * teacher_loss(
            state.network, state.averaged, (weak, strong, inside), precision=settings.precision
        )
        loss.backward()  # type: ignore[no-untyped-call] # torch's annotation is missing


def steps_of(labelled: LabelledPictures, settings: TuneSettings) -> int:
    """Return the number of steps: fewer with few crops, to avoid overfitting.

    Args:
        labelled: The crops; those of held-out slides are not trained on and do not count.
        settings: Limited by ``steps`` or ``passes``, whichever comes first.
    """
    held, pairs = _held_out(labelled, settings), zip(labelled.slides, labelled.label_maps, strict=True)
    pixels = sum(int((label_map != IGNORE).sum()) for slide, label_map in pairs if slide not in held)
    passes = math.ceil(settings.passes * pixels / (settings.batch * labelled.part_px(settings.size_px) ** 2))
    return min(settings.steps, max(passes, MIN_STEPS))


def _new_state(decoder: Decoder, settings: TuneSettings, device: torch.device) -> TuneState[Decoder]:
    return new_state(decoder, lambda moved: _optimiser(moved, settings), device)


def _optimiser(decoder: Decoder, settings: TuneSettings) -> torch.optim.Optimizer:
    late: list[nn.Parameter] = []
    early: list[nn.Parameter] = []
    for name, tensor in decoder.named_parameters():
        (late if name.startswith(_LATE) else early).append(tensor)
    groups: list[dict[str, Any]] = [{"params": late, "share": 1.0}]
    if settings.early > 0:
        groups.append({"params": early, "share": settings.early})
    else:
        for tensor in early:
            tensor.requires_grad_(False)
    return torch.optim.AdamW(groups, lr=settings.rate)


def _update(
    state: TuneState[Decoder],
    batch: tuple[Tensor, Tensor],
    weights: Tensor,
    settings: TuneSettings,
    taught: _MeanTeacher | None = None,
) -> float:
    """Update from (B, 3, H, W) and (B, H, W); return the loss, 0 if nothing is labelled: then only the teacher acts."""
    x, target = (part.to(weights.device) for part in batch)
    set_rates(state, settings)
    state.network.train()
    state.optimiser.zero_grad()
    loss = torch.zeros((), device=weights.device)
    if (target != IGNORE).any():
        with autocast(weights.device, settings.precision):
            scores = state.network(x)
        loss = F.cross_entropy(scores, target, weight=weights, ignore_index=IGNORE)
        loss.backward()  # type: ignore[no-untyped-call] # torch's annotation is missing
    if taught is not None:
        taught.backward(state, settings, weights.device)
    return apply_gradients(state, loss, what="decoder", advice=_NOT_FINITE)


def _held_out(labelled: LabelledPictures, settings: TuneSettings) -> tuple[str, ...]:
    return held_out_slides(labelled, seed=settings.seed) if settings.early_stopping else ()


def held_out_slides(labelled: LabelledPictures, *, seed: int) -> tuple[str, ...]:
    """Choose a fifth of the slides for early stopping.

    Args:
        labelled: The crops; slides without labelled pixels are not chosen.
        seed: Seed of the choice.

    Returns:
        The slides; fewer if others are the only ones with a class, which must stay in training; none with fewer than
        ``MIN_SLIDES``.
    """
    shown: dict[str | None, set[int]] = {}
    for slide, label_map in zip(labelled.slides, labelled.label_maps, strict=True):
        shown.setdefault(slide, set()).update(set(np.unique(label_map).tolist()) - {IGNORE})
    different = sorted(slide for slide, classes in shown.items() if classes and slide is not None)
    order = torch.randperm(len(different), generator=generator_for(seed, 0, what="held-out slides")).tolist()
    most = len(different) // HELD_SHARE if len(different) >= MIN_SLIDES else 0
    held: set[str] = set()
    for slide in (different[i] for i in order):
        trained_on = set().union(*(shown[other] for other in shown if other not in {*held, slide}))
        if len(held) < most and shown[slide] <= trained_on:
            held.add(slide)
    return tuple(sorted(held))


@torch.no_grad()
def _loss_of(decoder: Decoder, judged: LabelledPictures, weights: Tensor, precision: str) -> float:
    """Average the weighted cross entropy over the labelled pixels of whole crops."""
    decoder.eval()
    total, weight = 0.0, 0.0
    for picture, label_map in zip(judged.pictures, judged.label_maps, strict=True):
        with autocast(weights.device, precision):
            scores = decoder(to_input(picture[None]).to(weights.device))
        target = torch.from_numpy(label_map.astype(np.int64))[None].to(weights.device)
        total += F.cross_entropy(scores, target, weight=weights, ignore_index=IGNORE, reduction="sum").item()
        weight += weights[target[target != IGNORE]].sum().item()
    return total / max(weight, 1e-12)
