"""The steps of the training: crops shared out among processes, noise, gradients, averaged weights."""

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

from cytoseg.devices import generator_for
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.loss import LossGuard, LossReading, LossWindow, crop_losses, hybrid_losses
from cytoseg.diffusion.mask_loss import DrawMasks, MaskParts
from cytoseg.diffusion.settings import TrainSettings, passed, rate_at
from cytoseg.diffusion.state import TrainState
from cytoseg.diffusion.unet import build_diffusion, build_unet
from cytoseg.errors import CytosegError, RecipeError

GPU_STEPS_A_READING = 20
"""Reading a loss waits for the GPU; on the CPU there is nothing to wait for."""

PATIENCE = datetime.timedelta(minutes=30)
"""How long the other processes wait for one that saves or draws samples before they give up."""


@dataclass(frozen=True)
class StepReport:
    """What one step tells its caller.

    Attributes:
        crops: Of the step, over all processes; the last step may be short.
        crops_seen: After it.
        rate: The learning rate it used.
        reading: Losses since the last reading; None at steps that do not read them.
    """

    crops: int
    crops_seen: int
    rate: float
    reading: LossReading | None


def new_state(architecture: Architecture, settings: TrainSettings) -> TrainState:
    """Make network, averaged copy and optimiser from the seed, nothing seen yet."""
    unet = build_unet(architecture, seed=settings.seed).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack this keyword
    averaging: dict[str, Any] = {"update_after_step": 0, "update_every": 1, "include_online_model": False}
    ema = EMA(unet, beta=settings.ema_decay, use_foreach=True, **averaging)
    optimiser = torch.optim.Adam(_groups(unet, settings), lr=settings.rate, betas=(0.9, 0.99))
    return TrainState(architecture, unet, ema, optimiser, crops_seen=0)


def _groups(unet: nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
    """Part the weights by the share of the rate they learn at: an encoder that knows pictures already learns slower."""
    encoder = [weights for name, weights in unet.named_parameters() if name.startswith("encoder.")]
    rest = [weights for name, weights in unet.named_parameters() if not name.startswith("encoder.")]
    if not encoder:
        return [{"params": rest, "share": 1.0}]
    return [{"params": rest, "share": 1.0}, {"params": encoder, "share": settings.encoder_rate}]


def draw_noise(numbers: Tensor, *, settings: TrainSettings, timesteps: int) -> tuple[Tensor, Tensor]:
    """Draw timestep and noise of crops, each from (seed, its number) only.

    Args:
        numbers: (N,) int64 crop numbers.
        settings: Gives the seed and the size.
        timesteps: T.

    Returns:
        t (N,) int64 and eps (N, 3, size, size) float32, on the CPU.
    """
    ts, noises = [], []
    timesteps = min(timesteps, settings.highest_t or timesteps)
    for number in numbers.tolist():
        generator = generator_for(settings.seed, number, what="noise")
        ts.append(torch.randint(timesteps, (1,), generator=generator))
        noises.append(torch.randn(3, settings.size_px, settings.size_px, generator=generator))
    return torch.cat(ts), torch.stack(noises)


def new_accelerator(settings: TrainSettings, device: torch.device) -> Accelerator:
    """Bring device, precision and the other processes, if torchrun or accelerate started several."""
    # Of a 1x1 kernel in channels-last order the strides are a matter of taste, on which torch and DDP differ.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    if device.index is not None:
        torch.cuda.set_device(device)
    return Accelerator(
        mixed_precision=settings.precision,
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
) -> Iterator[StepReport]:
    """Train on the crops in order, yielding after every step; the state is consistent at each yield.

    Process r of n takes the crops of each step whose place is r modulo n, so that all of them together see what one
    process would see; their gradients are averaged.

    Args:
        state: From ``new_state`` or ``resume``; changed in place.
        crops: From number ``state.crops_seen`` on.
        settings: How to train.
        accelerator: Brings device, precision and other processes.
        masks: Draws a part of a labelled source for each crop; None without sources.

    Raises:
        RecipeError: If the crops of a step cannot be shared out evenly among the processes.
        CytosegError: If the loss is NaN or diverges.
    """
    diffusion = build_diffusion(state.unet, state.architecture, size_px=settings.size_px).to(accelerator.device)
    model, optimiser = accelerator.prepare(state.unet, state.optimiser)
    diffusion.model = cast(nn.Module, torch.compile(model)) if settings.compile else model
    _move_average(state.ema, accelerator.device)
    on_cpu = accelerator.device.type == "cpu"
    window = LossWindow(accelerator, every=1 if on_cpu else GPU_STEPS_A_READING)
    guard = LossGuard(cast(Any, diffusion).loss_weight)
    model.train()
    for numbers, x0 in _share(crops, state.crops_seen, settings=settings, accelerator=accelerator):
        rate = rate_at(state.crops_seen, settings)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["share"]
        parts = None if masks is None else masks(numbers)
        t, losses, mask_losses = _backward(diffusion, numbers, x0, parts, settings=settings, accelerator=accelerator)
        window.add(numbers.to(t), t, losses, mask_losses)
        seen = state.crops_seen + len(numbers) * accelerator.num_processes
        # Before a checkpoint, too: what goes into it has been looked at.
        saved_then = passed(settings.checkpoint_crops, state.crops_seen, seen) or seen >= settings.crops
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


def _move_average(ema: EMA, device: torch.device) -> None:
    """Move the averaged weights; their counter stays on the CPU, where reading it does not wait for a GPU."""
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
            f"training.batch={settings.batch} and the {count} crops to go must be multiples of the number of "
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
    """Pass the batches on; an error that a reading process wraps in its trace becomes the one line it was."""
    try:
        yield from loader
    except CytosegError as error:
        name = f"{type(error).__module__}.{type(error).__qualname__}: "
        raise type(error)(str(error).strip().rpartition(name)[2]) from error


def _backward(
    diffusion: nn.Module,
    numbers: Tensor,
    x0: Tensor,
    masks: MaskParts | None,
    *,
    settings: TrainSettings,
    accelerator: Accelerator,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Add up the gradients of one step.

    Gives the (N,) timesteps, denoising losses and mask losses of its crops; the last is None without sources.
    """
    t, eps = draw_noise(numbers, settings=settings, timesteps=cast(Any, diffusion).num_timesteps)
    found: list[tuple[Tensor, Tensor | None]] = []
    crops = list(zip(*(torch.split(tensor, settings.together) for tensor in (x0, t, eps)), strict=True))
    labelled = [None] * len(crops) if masks is None else masks.split(settings.together)
    for number, (part, mask_part) in enumerate(zip(crops, labelled, strict=True), start=1):
        last = number == len(crops)
        # Gradients travel between processes once a step, with the last part.
        with contextlib.nullcontext() if last else accelerator.no_sync(cast(nn.Module, diffusion.model)):
            moved = tuple(tensor.to(accelerator.device, non_blocking=True) for tensor in part)
            losses, mask_losses = _losses(diffusion, moved, mask_part, settings, accelerator.device)
            total = settings.denoising_weight * losses.sum()
            if mask_losses is not None:
                total = total + settings.mask_weight * mask_losses.sum()
            accelerator.backward(total / len(x0))
        found.append((losses.detach(), None if mask_losses is None else mask_losses.detach()))
    mask_rows = [rows for _, rows in found if rows is not None]
    return t.to(accelerator.device), torch.cat([rows for rows, _ in found]), torch.cat(mask_rows) if mask_rows else None


def _losses(
    diffusion: nn.Module,
    part: tuple[Tensor, ...],
    masks: MaskParts | None,
    settings: TrainSettings,
    device: torch.device,
) -> tuple[Tensor, Tensor | None]:
    """Compute the (N,) losses of some crops and of the parts that go with them; 0 for denoising that weighs nothing."""
    x0, t, eps = part
    x0 = x0.contiguous(memory_format=torch.channels_last)
    if masks is None:
        return crop_losses(diffusion, x0, t, eps), None
    masks = masks.to(device)
    if settings.denoising_weight:
        return hybrid_losses(diffusion, x0, t, eps, parts=masks)
    none, mask_losses = hybrid_losses(diffusion, x0[:0], t[:0], eps[:0], parts=masks)
    return none.sum() + torch.zeros(len(x0), device=device), mask_losses
