"""Training SegDiff on the labelled crops."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cytoseg.classes import IGNORE
from cytoseg.devices import autocast
from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.interpreter.labelled_training import (
    LabelledPictures,
    apply_gradients,
    labelled_parts,
    new_state,
    set_rates,
    training_steps,
)
from cytoseg.interpreter.part_draw import class_weights
from cytoseg.interpreter.segdiff import SCHEDULE, TIMESTEPS, SegDiff
from cytoseg.interpreter.settings import SegdiffSettings
from cytoseg.interpreter.tune_state import Resume, TuneState
from cytoseg.seeds import generator_for


def train_segdiff(
    model: SegDiff,
    labelled: LabelledPictures,
    *,
    settings: SegdiffSettings,
    device: torch.device,
    resume: Resume | None = None,
    on_step: Callable[[int, float], None] = lambda _step, _loss: None,
) -> SegDiff:
    """Train on augmented parts of the labelled crops by the squared error of the predicted noise.

    Ignored pixels have the value 0 in the clean map, between "is" and "is not", and do not count in the loss.

    Args:
        model: The initial model; trained in place.
        labelled: The crops.
        settings: How to train.
        device: Training device.
        resume: Where to store the state for resuming after an interruption; None stores nothing.
        on_step: Called with the step and its loss.

    Returns:
        The model with averaged weights, in evaluation mode.

    Raises:
        LabelError: If no pixel is labelled.
        CheckpointError: If the loss is not finite, or the state cannot be written.
        KeyboardInterrupt: After the current step, when Ctrl-C was pressed.
    """
    shares = class_weights(labelled.label_maps, model.classes)
    model.rule_out(torch.nonzero(shares == 0)[:, 0].tolist())
    state = new_state(model, lambda moved: torch.optim.AdamW(moved.parameters(), lr=settings.rate), device)
    if resume is not None:
        resume.restore(state)

    def update(state: TuneState[SegDiff], batch: tuple[Tensor, Tensor]) -> float:
        return _update(state, batch, settings)

    parts = labelled_parts(labelled, settings)
    for step, loss in training_steps(state, parts, update, steps=settings.steps, resume=resume):
        on_step(step, loss)
    if resume is not None:
        resume.forget()
    return state.averaged.eval()


def _update(state: TuneState[SegDiff], batch: tuple[Tensor, Tensor], settings: SegdiffSettings) -> float:
    """Update from (B, 3, H, W) and (B, H, W); return the loss."""
    model = state.network
    device = next(model.parameters()).device
    x, target = (part.to(device) for part in batch)
    labelled = target != IGNORE
    clean = _clean_maps(target, labelled, model.classes)
    times, noise = (part.to(device) for part in _noise_of(settings.seed, state.step, clean.shape))
    bars = alpha_bar(SCHEDULE, TIMESTEPS).to(device)[times][:, None, None, None].float()
    noisy = bars.sqrt() * clean + (1.0 - bars).sqrt() * noise
    with autocast(device, settings.precision):
        found = model.train()(noisy, times, model.encode(x.contiguous(memory_format=torch.channels_last)))
    errors = (found.float() - noise).square().mean(1) * labelled
    loss: Tensor = errors.sum() / labelled.sum().clamp_min(1)
    set_rates(state, settings)
    state.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call] # torch's annotation is missing
    return apply_gradients(state, loss, what="segdiff", advice="Lower segdiff.rate.")


def _clean_maps(target: Tensor, labelled: Tensor, classes: int) -> Tensor:
    """Convert (B, H, W) ids to (B, K, H, W) maps: 1 for the class, -1 for the others, 0 where ignored."""
    one_hot = F.one_hot(torch.where(labelled, target, 0), classes).permute(0, 3, 1, 2).float()
    return torch.where(labelled[:, None], 2.0 * one_hot - 1.0, 0.0)


def _noise_of(seed: int, step: int, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Draw a step's (B,) timesteps and (B, K, H, W) noise, on the CPU."""
    generator = generator_for(seed, step, what="segdiff")
    return torch.randint(TIMESTEPS, shape[:1], generator=generator), torch.randn(shape, generator=generator)
