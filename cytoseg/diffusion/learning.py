"""What a training step learns: a prepared network, its losses, and gradients accumulated over parts."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

StepLosses = tuple[Tensor, Tensor, Tensor | None]
"""The (N,) timesteps, losses and other losses of the crops of a step; either all steps have others or none."""
PartLosses = tuple[Tensor, Tensor, Tensor | None]
"""The sum to be minimised, and the (n,) losses and other losses of a part of a step."""
_Part = TypeVar("_Part")


@dataclass(frozen=True)
class Learning:
    """How a network learns.

    Attributes:
        model: The network, prepared for the device and other processes.
        optimiser: Its optimiser, prepared.
        weights: (T,) loss weights of the timesteps.
        backward: From (N,) crop numbers and (N, 3, H, W) crops to the losses; accumulates the gradients.
        in_passing: Whether a forward pass already changes the state, such as a codebook.
    """

    model: nn.Module
    optimiser: torch.optim.Optimizer
    weights: Tensor
    backward: Callable[[Tensor, Tensor], StepLosses]
    in_passing: bool = False


def accumulate(
    model: nn.Module,
    parts: Sequence[_Part],
    losses_of: Callable[[_Part], PartLosses],
    *,
    count: int,
    accelerator: Accelerator,
) -> tuple[Tensor, Tensor | None]:
    """Accumulate the gradients of a step's parts, synchronised once per step, with the last part.

    Args:
        model: The prepared network.
        parts: At least one.
        losses_of: Computes the losses of a part.
        count: Crops of all parts, by which the sums are divided.
        accelerator: From ``new_accelerator``.

    Returns:
        The (N,) losses, and other losses or None.
    """
    found: list[tuple[Tensor, Tensor | None]] = []
    for number, part in enumerate(parts, start=1):
        with contextlib.nullcontext() if number == len(parts) else accelerator.no_sync(model):
            total, losses, others = losses_of(part)
            accelerator.backward(total / count)
        found.append((losses.detach(), None if others is None else others.detach()))
    rows = [others for _, others in found if others is not None]
    return torch.cat([losses for losses, _ in found]), torch.cat(rows) if rows else None
