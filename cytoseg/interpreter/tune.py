"""Fine-tuning the decoder on the labelled crops."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ema_pytorch import EMA
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoseg.classes import IGNORE
from cytoseg.devices import generator_for
from cytoseg.errors import CheckpointError
from cytoseg.features.extract import to_input
from cytoseg.interpreter.augment import PartDraw, class_weights
from cytoseg.interpreter.decoder import Decoder
from cytoseg.interpreter.mean_teacher import Unlabelled, UnlabelledParts, ramp_at, teacher_loss
from cytoseg.interpreter.settings import TuneSettings
from cytoseg.interpreter.tune_state import Resume, TuneState
from cytoseg.interrupts import finish_step_on_interrupt

EMA_DECAY = 0.99
BLURRED = 0.25
"""Fraction of blurred parts: focus differs between slides."""
CHECKS = 20
"""Number of evaluations on held-out crops, and saved states, per training."""
HELD_SHARE = 5
"""One in this many slides is held out."""
LEAST_SLIDES = 10
"""With fewer labelled slides early stopping holds none out."""
LEAST_STEPS = 400
"""Minimum number of steps for any number of crops."""
_LATE = ("unet.ups", "unet.final_res_block", "head")


@dataclass(frozen=True)
class LabelledPictures:
    """Training data.

    Attributes:
        pictures: Crops, each (H, W, 3) uint8 RGB.
        label_maps: One per crop, (H, W) uint8 ids, 255 for ignore.
        slides: The slide of each crop.
    """

    pictures: Sequence[NDArray[np.uint8]]
    label_maps: Sequence[NDArray[np.uint8]]
    slides: Sequence[str]

    def only(self, numbers: Sequence[int]) -> "LabelledPictures":
        """Select some of the crops."""
        return replace(
            self,
            pictures=[self.pictures[i] for i in numbers],
            label_maps=[self.label_maps[i] for i in numbers],
            slides=[self.slides[i] for i in numbers],
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
    settings = replace(settings, steps=steps_of(labelled, settings))
    weights = class_weights(labelled.label_maps, decoder.classes).to(device)
    held = held_out_slides(labelled, seed=settings.seed) if settings.early_stopping else ()
    learnt = labelled.only([i for i, slide in enumerate(labelled.slides) if slide not in held])
    judged = labelled.only([i for i, slide in enumerate(labelled.slides) if slide in held])
    state = _new_state(decoder, settings, device)
    if resume is not None:
        resume.restore(state)
    taught = None
    if unlabelled is not None:
        taught = _Taught(UnlabelledParts(unlabelled, batch=settings.batch, seed=settings.seed), unlabelled.weight)
    for step, loss in _steps(state, learnt, weights, settings=settings, resume=resume, taught=taught):
        on_step(step, loss)
        if held and _is_look(step, settings):
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
class _Taught:
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
        labelled: The crops.
        settings: Limited by ``steps`` or ``passes``, whichever comes first.
    """
    pixels = sum(int((label_map != IGNORE).sum()) for label_map in labelled.label_maps)
    passes = math.ceil(settings.passes * pixels / (settings.batch * settings.size_px**2))
    return min(settings.steps, max(passes, LEAST_STEPS))


def _is_look(step: int, settings: TuneSettings) -> bool:
    return step % max(1, settings.steps // CHECKS) == 0


def _new_state(decoder: Decoder, settings: TuneSettings, device: torch.device) -> TuneState[Decoder]:
    decoder = decoder.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack this keyword
    averaging: dict[str, Any] = {"update_after_step": 0, "update_every": 1, "include_online_model": False}
    return TuneState(
        decoder, EMA(decoder, beta=EMA_DECAY, use_foreach=True, **averaging), _optimiser(decoder, settings)
    )


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


def _steps(
    state: TuneState[Decoder],
    learnt: LabelledPictures,
    weights: Tensor,
    *,
    settings: TuneSettings,
    resume: Resume | None,
    taught: _Taught | None,
) -> Iterator[tuple[int, float]]:
    """Run the optimiser from the current state; yield the number and loss of each step."""
    draw = PartDraw(
        learnt.pictures,
        learnt.label_maps,
        size_px=settings.size_px,
        batch=settings.batch,
        blurred=BLURRED,
        seed=settings.seed,
    )
    with finish_step_on_interrupt() as interrupt:
        while state.step < settings.steps:
            loss = _update(state, draw(state.step), weights, settings, taught)
            state.average.update()
            state.step += 1
            yield state.step, loss
            if resume is not None and (interrupt.requested or _is_look(state.step, settings)):
                resume.save(state)
            if interrupt.requested:
                raise KeyboardInterrupt


def _update(
    state: TuneState[Decoder],
    batch: tuple[Tensor, Tensor],
    weights: Tensor,
    settings: TuneSettings,
    taught: _Taught | None = None,
) -> float:
    """Update from (B, 3, H, W) and (B, H, W); return the loss, 0 if nothing is labelled."""
    x, target = (part.to(weights.device) for part in batch)
    if not (target != IGNORE).any():
        return 0.0
    warm = min(1.0, (state.step + 1) / max(1, settings.steps // CHECKS))
    falling = 0.5 * (1.0 + math.cos(math.pi * state.step / settings.steps))
    for group in state.optimiser.param_groups:
        group["lr"] = settings.rate * group["share"] * warm * falling
    with torch.autocast(weights.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        scores = state.network.train()(x)
    loss = F.cross_entropy(scores, target, weight=weights, ignore_index=IGNORE)
    state.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call] # torch's annotation is missing
    if taught is not None:
        taught.backward(state, settings, weights.device)
    length = nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    if not torch.stack((loss.detach(), length)).isfinite().all():
        raise _not_finite(state.step)
    state.optimiser.step()
    return loss.item()


def _not_finite(step: int) -> CheckpointError:
    return CheckpointError(
        f"decoder: the loss of step {step + 1} is not finite. The diffusion model's weights are "
        "damaged (move its newest checkpoint away to use an older one), or decoder.rate is too high."
    )


def held_out_slides(labelled: LabelledPictures, *, seed: int) -> tuple[str, ...]:
    """Choose a fifth of the slides for early stopping.

    Args:
        labelled: The crops; slides without labelled pixels are not chosen.
        seed: Seed of the choice.

    Returns:
        The slides; fewer if others are the only ones with a class, which must stay in training; none with fewer than
        ``LEAST_SLIDES``.
    """
    shown: dict[str, set[int]] = {}
    for slide, label_map in zip(labelled.slides, labelled.label_maps, strict=True):
        shown.setdefault(slide, set()).update(set(np.unique(label_map).tolist()) - {IGNORE})
    different = sorted(slide for slide, classes in shown.items() if classes)
    order = torch.randperm(len(different), generator=generator_for(seed, 0, what="held-out slides")).tolist()
    most = len(different) // HELD_SHARE if len(different) >= LEAST_SLIDES else 0
    held: set[str] = set()
    for slide in (different[i] for i in order):
        learnt = set().union(*(shown[other] for other in different if other not in {*held, slide}))
        if len(held) < most and shown[slide] <= learnt:
            held.add(slide)
    return tuple(sorted(held))


@torch.no_grad()
def _loss_of(decoder: Decoder, judged: LabelledPictures, weights: Tensor, precision: str) -> float:
    """Average the weighted cross entropy over the labelled pixels of whole crops."""
    decoder.eval()
    total, weight = 0.0, 0.0
    for picture, label_map in zip(judged.pictures, judged.label_maps, strict=True):
        with torch.autocast(weights.device.type, torch.bfloat16, enabled=precision == "bf16"):
            scores = decoder(to_input(picture[None]).to(weights.device))
        target = torch.from_numpy(label_map.astype(np.int64))[None].to(weights.device)
        total += F.cross_entropy(scores, target, weight=weights, ignore_index=IGNORE, reduction="sum").item()
        weight += weights[target[target != IGNORE]].sum().item()
    return total / max(weight, 1e-12)
