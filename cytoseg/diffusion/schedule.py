"""Noise schedules: how much of the crop is left at timestep t."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cytoseg.diffusion.lucidrains import cosine_beta_schedule, linear_beta_schedule, sigmoid_beta_schedule

_BETAS = {"linear": linear_beta_schedule, "cosine": cosine_beta_schedule, "sigmoid": sigmoid_beta_schedule}


def alpha_bar(schedule: str, timesteps: int) -> Tensor:
    """Compute the share of the signal's variance that is left at each timestep.

    Args:
        schedule: ``linear`` (Ho et al. 2020), ``cosine`` (Nichol and Dhariwal 2021) or ``sigmoid`` (Jabri et al. 2022).
        timesteps: T.

    Returns:
        (T,) float64, falling from almost 1 to almost 0.
    """
    betas: Tensor = _BETAS[schedule](timesteps)
    return torch.cumprod(1.0 - betas.double(), dim=0)


def snr_db(alpha_bars: Tensor) -> Tensor:
    """Convert signal shares to signal-to-noise ratios: 10 log10(abar / (1 - abar)), in decibels."""
    return 10.0 * torch.log10(alpha_bars / (1.0 - alpha_bars))


def timesteps_at_snr(alpha_bars: Tensor, ratios_db: Sequence[float]) -> tuple[int, ...]:
    """Find the timesteps whose signal-to-noise ratio is nearest to the ones asked for.

    Use it to carry a choice of noise levels from one schedule to another.

    Args:
        alpha_bars: (T,) as ``alpha_bar`` gives it.
        ratios_db: In decibels.
    """
    table = snr_db(alpha_bars)
    return tuple(int((table - ratio).abs().argmin()) for ratio in ratios_db)


def noise_to(x0: Tensor, alpha_bar_t: float, eps: Tensor) -> Tensor:
    """Add noise: x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps.

    Args:
        x0: (..., 3, H, W) float32 in [-1, 1].
        alpha_bar_t: abar at t, 0 to 1.
        eps: Standard normal, of a shape that fits x0.
    """
    return math.sqrt(alpha_bar_t) * x0 + math.sqrt(1.0 - alpha_bar_t) * eps
