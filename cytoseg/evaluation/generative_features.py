"""Features of whole pictures, from filters that need no weights: for telling made pictures from real ones."""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.features.filters import filter_maps
from cytoseg.features.settings import CHANNELS, PER_SCALE, SIGMAS_PX

NAME = "filters"
GRID = 4
"""Spatial features are means over a grid of so many fields a side."""
_TOGETHER = 32


def network_hash() -> str:
    """Give the first 12 digits of a SHA-256 over what decides the filters; others give numbers that do not compare."""
    decided = f"{NAME} {CHANNELS} {PER_SCALE} {SIGMAS_PX} mean sd grid {GRID}"
    return hashlib.sha256(decided.encode()).hexdigest()[:12]


@torch.inference_mode()
def filter_features(pictures: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Describe each picture by the 72 filters.

    Args:
        pictures: (N, 3, H, W) in [-1, 1]; each side at least 4.

    Returns:
        (N, 144), mean and standard deviation of each filter over the picture; and (N, 1152), its means over a 4x4 grid.
    """
    whole, spatial = [], []
    for part in torch.split(pictures, _TOGETHER):
        maps = filter_maps(part).double()
        whole.append(torch.cat([maps.mean((2, 3)), maps.std((2, 3))], dim=1))
        spatial.append(torch.nn.functional.adaptive_avg_pool2d(maps, GRID).flatten(1))
    return torch.cat(whole).numpy(), torch.cat(spatial).numpy()


def standardised(
    features: tuple[NDArray[np.float64], NDArray[np.float64]],
    by: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Divide features by the spread of real ones, so that each filter counts alike.

    Args:
        features: As ``filter_features`` gives them.
        by: The same of real pictures.
    """
    a, b = ((f - r.mean(0)) / np.maximum(r.std(0), 1e-6) for f, r in zip(features, by, strict=True))
    return a, b
