"""Noise schedules as tensors, SNR and adding noise."""

import math

import torch
from torch import Tensor

from cytoseg.diffusion.noise_schedules import signal_shares


def alpha_bar(schedule: str, timesteps: int) -> Tensor:
    """Compute the remaining fraction of the signal variance at each timestep.

    Args:
        schedule: ``linear`` (Ho et al. 2020), ``cosine`` (Nichol and Dhariwal 2021) or ``sigmoid`` (Jabri et al. 2022).
        timesteps: T.

    Returns:
        (T,) float64, falling from almost 1 to almost 0.
    """
    return torch.from_numpy(signal_shares(schedule, timesteps))


def snr_db(alpha_bars: Tensor) -> Tensor:
    """Convert signal shares to signal-to-noise ratios: 10 log10(abar / (1 - abar)), in decibels."""
    return 10.0 * torch.log10(alpha_bars / (1.0 - alpha_bars))


def add_noise(x0: Tensor, alpha_bar_t: float, eps: Tensor) -> Tensor:
    """Add noise: x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps.

    Args:
        x0: (..., 3, H, W) float32 in [-1, 1].
        alpha_bar_t: abar at t, 0 to 1.
        eps: Standard normal, broadcastable to x0.
    """
    return math.sqrt(alpha_bar_t) * x0 + math.sqrt(1.0 - alpha_bar_t) * eps
