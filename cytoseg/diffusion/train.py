"""The training loop of the diffusion model: short, resumable, counted in crops seen."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from ema_pytorch import EMA
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cytoseg.devices import generator_for
from cytoseg.diffusion.state import TrainState, prune, resume, save
from cytoseg.diffusion.unet import Architecture, build_diffusion, build_unet
from cytoseg.errors import CheckpointError, CytosegError
from cytoseg.runs import MetricsLog, finish_step_on_interrupt


@dataclass(frozen=True)
class TrainSettings:
    """How to train.

    Attributes:
        crops: Length of the training, in crops seen.
        batch: Crops per step.
        size_px: Side of a crop.
        rate: Highest learning rate of Adam.
        rate_schedule: ``constant``, or ``cosine`` down to a tenth at the end.
        warmup_crops: Crops over which the rate rises from 0.
        ema_decay: Decay per step of the averaged weights, reached after a warm-up.
        clip_norm: Largest gradient norm.
        precision: ``no`` (fp32) or ``bf16``.
        seed: Of crops, timesteps, noise and first weights.
        checkpoint_crops: Crops between two checkpoints.
        workers: Processes that read crops; 0 reads in the training process.
    """

    crops: int
    batch: int
    size_px: int
    rate: float
    rate_schedule: str
    warmup_crops: int
    ema_decay: float
    clip_norm: float
    precision: str
    seed: int
    checkpoint_crops: int
    workers: int


@dataclass(frozen=True)
class StepReport:
    """What one step tells its caller: crops seen after it, its mean loss, the rate it used."""

    crops_seen: int
    loss: float
    rate: float


def rate_at(crops_seen: int, settings: TrainSettings) -> float:
    """Compute the learning rate after ``crops_seen`` crops: linear warm-up, then constant or cosine."""
    warm = min(1.0, (crops_seen + settings.batch) / settings.warmup_crops) if settings.warmup_crops else 1.0
    if settings.rate_schedule == "constant":
        return settings.rate * warm
    done = min(1.0, crops_seen / settings.crops)
    return settings.rate * warm * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * done)))


def draw_noise(first: int, count: int, *, settings: TrainSettings, timesteps: int) -> tuple[Tensor, Tensor]:
    """Draw timestep and noise of crops ``first`` to ``first + count - 1``, each from (seed, number) only.

    Returns:
        t (count,) int64 and eps (count, 3, size, size) float32, on the CPU.
    """
    ts, noises = [], []
    for number in range(first, first + count):
        generator = generator_for(settings.seed, number, what="noise")
        ts.append(torch.randint(timesteps, (1,), generator=generator))
        noises.append(torch.randn(3, settings.size_px, settings.size_px, generator=generator))
    return torch.cat(ts), torch.stack(noises)


def new_state(architecture: Architecture, settings: TrainSettings) -> TrainState:
    """Make network, averaged copy and optimiser from the seed, nothing seen yet."""
    unet = build_unet(architecture, seed=settings.seed).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack this keyword
    ema = EMA(unet, beta=settings.ema_decay, update_after_step=0, update_every=1, include_online_model=False)
    optimiser = torch.optim.Adam(unet.parameters(), lr=settings.rate, betas=(0.9, 0.99))
    return TrainState(architecture, unet, ema, optimiser, crops_seen=0)


def train_steps(
    state: TrainState, crops: Dataset[Tensor], *, settings: TrainSettings, accelerator: Accelerator
) -> Iterator[StepReport]:
    """Train on the crops in order, yielding after every step; the state is consistent at each yield.

    Args:
        state: From ``new_state`` or ``resume``; changed in place.
        crops: From number ``state.crops_seen`` on.
        settings: How to train.
        accelerator: Brings device, precision and, later, other processes.

    Raises:
        CytosegError: If the loss is no longer a number.
    """
    diffusion = build_diffusion(state.unet, state.architecture, size_px=settings.size_px).to(accelerator.device)
    model, optimiser = accelerator.prepare(state.unet, state.optimiser)
    diffusion.model = model
    state.ema.to(accelerator.device)
    loader = DataLoader(crops, batch_size=settings.batch, num_workers=settings.workers)
    model.train()
    for x0 in loader:
        rate = rate_at(state.crops_seen, settings)
        for group in optimiser.param_groups:
            group["lr"] = rate
        t, eps = draw_noise(state.crops_seen, len(x0), settings=settings, timesteps=state.architecture.timesteps)
        loss = _loss(diffusion, x0, t, eps, accelerator=accelerator)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), settings.clip_norm)
        if not math.isfinite(loss.item()):
            raise CytosegError(
                f"train-ddpm: the loss is {loss.item()} after {state.crops_seen} crops. "
                "Lower training.rate or set training.precision=no, then --resume from the last checkpoint."
            )
        optimiser.step()
        optimiser.zero_grad()
        state.ema.update()
        state.crops_seen += len(x0)
        yield StepReport(state.crops_seen, loss.item(), rate)


def _loss(diffusion: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, *, accelerator: Accelerator) -> Tensor:
    device = accelerator.device
    x0 = x0.to(device, memory_format=torch.channels_last)
    p_losses = cast(Callable[..., Tensor], diffusion.p_losses)
    return p_losses(x0, t.to(device), noise=eps.to(device))


def train(
    folder: Path,
    architecture: Architecture,
    crops_from: Callable[[int], Dataset[Tensor]],
    *,
    settings: TrainSettings,
    device: torch.device,
    go_on: bool,
    on_step: Callable[[StepReport], None] = lambda _: None,
) -> TrainState:
    """Train to the full length, saving checkpoints and ``metrics.jsonl`` in a folder.

    Ctrl-C ends the step, saves a checkpoint and raises KeyboardInterrupt.

    Args:
        folder: For checkpoints and log.
        architecture: Of the network.
        crops_from: Gives the crops from a number on.
        settings: How to train.
        device: Where.
        go_on: Resume from the newest checkpoint if there is one.
        on_step: Told of every step.

    Returns:
        The state at the end; trained already if the newest checkpoint has seen all crops.

    Raises:
        CheckpointError: If there are checkpoints and ``go_on`` is False, or they are of another architecture.
        CytosegError: If the loss is no longer a number.
    """
    state = _start(folder, architecture, settings, go_on=go_on)
    if state.crops_seen >= settings.crops:
        return state
    accelerator = Accelerator(mixed_precision=settings.precision, cpu=device.type == "cpu")
    log = MetricsLog(folder / "metrics.jsonl", keep_until=state.crops_seen)
    saved_at = state.crops_seen
    steps = train_steps(state, crops_from(state.crops_seen), settings=settings, accelerator=accelerator)
    try:
        with finish_step_on_interrupt() as interrupt:
            for report in steps:
                log.write(_row(report))
                on_step(report)
                if interrupt.requested or report.crops_seen - saved_at >= settings.checkpoint_crops:
                    saved_at = save(folder, state)
                if interrupt.requested:
                    raise KeyboardInterrupt
            if saved_at != state.crops_seen:
                save(folder, state)
    finally:
        steps.close()  # type: ignore[attr-defined] # a generator; its annotation says Iterator for its readers
        log.close()
    prune(folder, keep=2)
    return state


def _start(folder: Path, architecture: Architecture, settings: TrainSettings, *, go_on: bool) -> TrainState:
    state = new_state(architecture, settings)
    found = resume(folder, state)
    if found is not None and not go_on:
        raise CheckpointError(
            f"{folder}: holds a checkpoint after {state.crops_seen} crops. Add --resume to go on from it, "
            "or choose another folder (folder=runs/NAME)."
        )
    return state


def _row(report: StepReport) -> dict[str, Any]:
    return {"crops_seen": report.crops_seen, "loss": round(report.loss, 6), "rate": report.rate}
