"""Noise schedules in numpy: signal share per timestep."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Shares = NDArray[np.float64]
"""(T,) remaining fraction of the signal variance at each timestep, from almost 1 to almost 0."""
_LARGEST_BETA = 0.999


def _linear(timesteps: int) -> Shares:
    """Variances from 1e-4 to 0.02, scaled to T (Ho et al. 2020)."""
    scale = 1000 / timesteps
    return _left(np.linspace(scale * 1e-4, scale * 0.02, timesteps, dtype=np.float64))


def _cosine(timesteps: int) -> Shares:
    """A squared cosine, offset by .008 so that the first steps are not too small (Nichol and Dhariwal 2021)."""
    time = np.linspace(0.0, 1.0, timesteps + 1)
    return _of_curve(np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2)


def _sigmoid(timesteps: int) -> Shares:
    """A sigmoid from -3 to 3 (Jabri et al. 2022)."""
    first, last = -3.0, 3.0
    time = np.linspace(0.0, 1.0, timesteps + 1)
    top = float(np.float32(_logistic(last)))  # rounded as in denoising-diffusion-pytorch; the last steps depend on it
    return _of_curve(top - _logistic(time * (last - first) + first))


def _logistic(x: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(x, dtype=np.float64))))


def _of_curve(curve: Shares) -> Shares:
    """Compute the steps of a curve, limited so that none removes the whole signal."""
    return _left(np.clip(1.0 - curve[1:] / curve[:-1], 0.0, _LARGEST_BETA))


def _left(betas: Shares) -> Shares:
    """Return the cumulative product of the remaining fractions."""
    return np.asarray(np.cumprod(1.0 - betas), dtype=np.float64)


_SCHEDULES: Mapping[str, Callable[[int], Shares]] = {"linear": _linear, "cosine": _cosine, "sigmoid": _sigmoid}


def signal_shares(schedule: str, timesteps: int) -> Shares:
    """Compute alpha bar, the remaining fraction of the signal variance at each timestep.

    Args:
        schedule: ``linear``, ``cosine`` or ``sigmoid``.
        timesteps: T.
    """
    return _SCHEDULES[schedule](timesteps)


def timesteps_at_snr(shares: Shares, ratios_db: Sequence[float]) -> tuple[int, ...]:
    """Find the timesteps with the signal-to-noise ratios nearest to the given ones.

    Use it to transfer noise levels from one schedule to another.

    Args:
        shares: From ``signal_shares``.
        ratios_db: In decibels.
    """
    table = 10.0 * np.log10(shares / (1.0 - shares))
    return tuple(int(np.abs(table - ratio).argmin()) for ratio in ratios_db)
