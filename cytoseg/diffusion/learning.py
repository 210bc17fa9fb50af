"""What a training learns: a prepared network, and the losses of crops."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class CropLosses:
    """Losses of N crops.

    Attributes:
        t: (N,) int64 timesteps.
        losses: (N,) float32.
        others: (N,) float32, the second loss; None if the training has none.
        total: The sum to be minimised, with its gradient.
    """

    t: Tensor
    losses: Tensor
    others: Tensor | None
    total: Tensor


@dataclass(frozen=True)
class Learning:
    """How a network learns.

    Attributes:
        model: The network, prepared for the device and other processes.
        optimiser: Its optimiser, prepared.
        weights: (T,) loss weights of the timesteps.
        losses_of: From (N,) crop numbers and (N, 3, H, W) crops to their losses.
        in_passing: Whether a forward pass already changes the state, such as a codebook.
    """

    model: nn.Module
    optimiser: torch.optim.Optimizer
    weights: Tensor
    losses_of: Callable[[Tensor, Tensor], CropLosses]
    in_passing: bool = False
