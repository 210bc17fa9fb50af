"""Training steps: distributed crops, noise, gradients, averaged weights."""

import contextlib
import datetime
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from ema_pytorch import EMA
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from cytoseg.devices import working_precision
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.autoencoder_steps import autoencoder_learning
from cytoseg.diffusion.class_map import DrawMaps
from cytoseg.diffusion.learning import CropLosses, Learning
from cytoseg.diffusion.loss_log import LossGuard, LossReading, LossWindow
from cytoseg.diffusion.mask_loss import DrawMasks, MaskParts
from cytoseg.diffusion.network_output import crop_losses, hybrid_losses
from cytoseg.diffusion.settings import TrainSettings, crosses_multiple, rate_at
from cytoseg.diffusion.state import TrainState
from cytoseg.diffusion.unet import build_diffusion, build_network
from cytoseg.errors import CytosegError, RecipeError
from cytoseg.seeds import generator_for

GPU_STEPS_A_READING = 20
"""Steps between readings of the loss on a GPU, because reading synchronises with it."""

PATIENCE = datetime.timedelta(minutes=30)
"""How long processes wait for the one that saves or draws samples."""


@dataclass(frozen=True)
class StepReport:
    """Report of one step.

    Attributes:
        crops: Crops of the step over all processes; the last step may be smaller.
        crops_seen: Crops seen after the step.
        rate: Learning rate of the step.
        reading: Losses since the last reading; None at steps without one.
    """

    crops: int
    crops_seen: int
    rate: float
    reading: LossReading | None


def new_state(architecture: Architecture, settings: TrainSettings) -> TrainState:
    """Build network, averaged copy and optimiser from the seed."""
    unet = build_network(architecture, seed=settings.seed).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack this keyword
    averaging: dict[str, Any] = {"update_after_step": 0, "update_every": 1, "include_online_model": False}
    ema = EMA(unet, beta=settings.ema_decay, use_foreach=True, **averaging)
    optimiser = torch.optim.Adam(_groups(unet, settings), lr=settings.rate, betas=(0.9, 0.99))
    return TrainState(architecture, unet, ema, optimiser, crops_seen=0)


def _groups(unet: nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
    """Group the weights by learning rate: a pretrained encoder has a lower one."""
    learning = [(name, weights) for name, weights in unet.named_parameters() if weights.requires_grad]
    encoder = [weights for name, weights in learning if name.startswith("encoder.")]
    rest = [weights for name, weights in learning if not name.startswith("encoder.")]
    if not encoder:
        return [{"params": rest, "share": 1.0}]
    return [{"params": rest, "share": 1.0}, {"params": encoder, "share": settings.encoder_rate}]


def draw_noise(
    numbers: Tensor, *, settings: TrainSettings, timesteps: int, channels: int = 3, factor: int = 1
) -> tuple[Tensor, Tensor]:
    """Draw timestep and noise of crops, each as a function of (seed, number) only.

    Args:
        numbers: (N,) int64 crop numbers.
        settings: Training settings with seed and size.
        timesteps: T.
        channels: C of what is diffused.
        factor: Pixels that one of its values stands for in each direction.

    Returns:
        t (N,) int64 and eps (N, C, size / factor, size / factor) float32, on the CPU.
    """
    ts, noises, side = [], [], settings.size_px // factor
    timesteps = min(timesteps, settings.highest_t or timesteps)
    for number in numbers.tolist():
        generator = generator_for(settings.seed, number, what="noise")
        ts.append(torch.randint(timesteps, (1,), generator=generator))
        noises.append(torch.randn(channels, side, side, generator=generator))
    return torch.cat(ts), torch.stack(noises)


def new_accelerator(settings: TrainSettings, device: torch.device) -> Accelerator:
    """Create the accelerator: device, precision and, under torchrun or accelerate, other processes."""
    # Strides of a channels-last 1x1 kernel are ambiguous, and torch and DDP choose differently.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    if device.index is not None:
        torch.cuda.set_device(device)
    return Accelerator(
        mixed_precision=working_precision(settings.precision, device),
        cpu=device.type == "cpu",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )


def train_steps(
    state: TrainState,
    crops: Dataset[Tensor],
    *,
    settings: TrainSettings,
    accelerator: Accelerator,
    masks: DrawMasks | None = None,
    maps: DrawMaps | None = None,
) -> Iterator[StepReport]:
    """Train on the crops in order, yielding after every step; the state is consistent at each yield.

    Process r of n takes the crops of each step at positions r modulo n, so that together they see the same crops as a
    single process; gradients are averaged.

    Args:
        state: From ``new_state`` or ``resume``; changed in place.
        crops: Crops starting at number ``state.crops_seen``.
        settings: Training settings.
        accelerator: From ``new_accelerator``.
        masks: Draws a part of a labelled source for each crop; None without sources.
        maps: Gives each crop its class map; None for a network that is not conditioned on one.

    Raises:
        RecipeError: If the crops of a step cannot be divided evenly among the processes.
        CytosegError: If the loss is NaN or diverges.
    """
    if state.architecture.part == "autoencoder":
        learning = autoencoder_learning(state, settings, accelerator)
    else:
        learning = _diffusion_learning(state, settings, accelerator, masks, maps)
    model, optimiser = learning.model, learning.optimiser
    _move_average(state.ema, accelerator.device)
    on_cpu = accelerator.device.type == "cpu"
    window = LossWindow(accelerator, every=1 if on_cpu else GPU_STEPS_A_READING)
    guard = LossGuard(learning.weights, command=state.architecture.command, other=state.architecture.other_loss)
    model.train()
    for numbers, x0 in _share(crops, state.crops_seen, settings=settings, accelerator=accelerator):
        rate = _set_rate(optimiser, rate_at(state.crops_seen, settings))
        state.whole = not learning.in_passing
        t, losses, others = _accumulate(learning, numbers, x0, together=settings.together, accelerator=accelerator)
        window.add(numbers.to(t), t, losses, others)
        seen = state.crops_seen + len(numbers) * accelerator.num_processes
        # Also before a checkpoint, so that its losses have been checked.
        saved_then = crosses_multiple(settings.checkpoint_crops, state.crops_seen, seen) or seen >= settings.crops
        reading = window.read() if window.due or saved_then else None
        if reading is not None:
            guard.check(reading)
        accelerator.clip_grad_norm_(model.parameters(), settings.clip_norm)
        state.whole = False
        optimiser.step()
        optimiser.zero_grad()
        state.ema.update()
        taken, state.crops_seen, state.whole = seen - state.crops_seen, seen, True
        yield StepReport(taken, seen, rate, reading)


def _accumulate(
    learning: Learning, numbers: Tensor, x0: Tensor, *, together: int, accelerator: Accelerator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Accumulate the gradients of a step, a few crops at a time, synchronised once per step, with the last of them.

    Returns:
        The (N,) timesteps, losses and other losses of the crops; the last is None if the training has one loss.
    """
    found: list[tuple[Tensor, Tensor]] = []
    others: list[Tensor] = []
    parts = list(zip(torch.split(numbers, together), torch.split(x0, together), strict=True))
    for position, part in enumerate(parts, start=1):
        with contextlib.nullcontext() if position == len(parts) else accelerator.no_sync(learning.model):
            losses = learning.losses_of(*part)
            accelerator.backward(losses.total / len(x0))
        found.append((losses.t, losses.losses.detach()))
        others += [] if losses.others is None else [losses.others.detach()]
    t, losses_found = (torch.cat(column) for column in zip(*found, strict=True))
    return t, losses_found, torch.cat(others) if others else None


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> float:
    """Set the learning rate of each group of weights to its share of ``rate``, which is returned."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["share"]
    return rate


def _move_average(ema: EMA, device: torch.device) -> None:
    """Update the averaged weights; their counter stays on the CPU to avoid GPU synchronisation."""
    ema.to(device)
    ema.step, ema.initted = ema.step.cpu(), ema.initted.cpu()


def _share(
    crops: Dataset[Tensor], first: int, *, settings: TrainSettings, accelerator: Accelerator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield this process's crops of each step: their (N,) numbers and the (N, 3, H, W) crops."""
    rank, processes = accelerator.process_index, accelerator.num_processes
    count = len(crops)  # type: ignore[arg-type] # Dataset has no length for mypy
    if settings.batch % processes or count % processes:
        raise RecipeError(
            f"training.batch={settings.batch} and the {count} remaining crops must be multiples of the number of "
            f"processes, {processes}. Change training.batch or training.crops, or start fewer processes."
        )
    mine = Subset(crops, range(rank, count, processes))
    on_gpu = accelerator.device.type == "cuda"
    loader = DataLoader(mine, batch_size=settings.batch // processes, num_workers=settings.workers, pin_memory=on_gpu)
    done = 0
    for x0 in _in_one_line(loader):
        yield first + rank + processes * torch.arange(done, done + len(x0)), x0
        done += len(x0)


def _in_one_line(loader: DataLoader[Tensor]) -> Iterator[Tensor]:
    """Pass batches on; unwrap an error from a worker's traceback into its one line."""
    try:
        yield from loader
    except CytosegError as error:
        name = f"{type(error).__module__}.{type(error).__qualname__}: "
        raise type(error)(str(error).strip().rpartition(name)[2]) from error


def _diffusion_learning(
    state: TrainState,
    settings: TrainSettings,
    accelerator: Accelerator,
    masks: DrawMasks | None,
    maps: DrawMaps | None,
) -> Learning:
    """Prepare the training of a diffusion model."""
    diffusion = build_diffusion(state.unet, state.architecture, size_px=settings.size_px).to(accelerator.device)
    model, optimiser = accelerator.prepare(state.unet, state.optimiser)
    diffusion.model = cast(nn.Module, torch.compile(model)) if settings.compile else model

    process, device = cast(Any, diffusion), accelerator.device

    def losses_of(numbers: Tensor, x0: Tensor) -> CropLosses:
        beside: MaskParts | Tensor | None = None if masks is None else masks(numbers)
        if maps is not None:
            x0, beside = maps(numbers, x0)
        size: dict[str, int] = {"channels": process.channels, "factor": process.space.factor}
        t, eps = draw_noise(numbers, settings=settings, timesteps=process.num_timesteps, **size)
        x0, t, eps = (tensor.to(device, non_blocking=True) for tensor in (x0, t, eps))
        if beside is not None:
            beside = beside.to(device)
        losses, mask_losses = _losses(diffusion, (x0, t, eps), beside, settings)
        total = settings.denoising_weight * losses.sum()
        if mask_losses is not None:
            total = total + settings.mask_weight * mask_losses.sum()
        return CropLosses(t, losses, mask_losses, total)

    return Learning(model, optimiser, process.loss_weight, losses_of)


def _losses(
    diffusion: nn.Module,
    crops: tuple[Tensor, Tensor, Tensor],
    beside: MaskParts | Tensor | None,
    settings: TrainSettings,
) -> tuple[Tensor, Tensor | None]:
    """Compute the (N,) losses of crops and their source parts; denoising losses are 0 if their weight is 0."""
    pictures, t, eps = crops
    with torch.no_grad():
        x0 = cast(Any, diffusion).space.encode(pictures).contiguous(memory_format=torch.channels_last)
    if not isinstance(beside, MaskParts):
        return crop_losses(diffusion, x0, t, eps, class_map=beside), None
    if settings.denoising_weight:
        return hybrid_losses(diffusion, x0, t, eps, parts=beside)
    none, mask_losses = hybrid_losses(diffusion, x0[:0], t[:0], eps[:0], parts=beside)
    return none.sum() + torch.zeros(len(x0), device=x0.device), mask_losses
