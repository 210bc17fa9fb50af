"""A diffusion model small enough to train in a test."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.settings import TrainSettings


class RandomCrops(Dataset[Tensor]):
    """Crop i is made from i alone, as ``SlideCrops`` makes it from (seed, i)."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last

    def __len__(self) -> int:
        return self._last - self._first

    def __getitem__(self, index: int) -> Tensor:
        generator = torch.Generator().manual_seed(self._first + index)
        return torch.rand(3, 16, 16, generator=generator) * 2 - 1


@pytest.fixture(scope="session")
def tiny() -> Architecture:
    return Architecture(dim=8, dim_mults=(1, 2), timesteps=10, schedule="cosine", objective="pred_noise")


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., TrainSettings]:
    """Make settings for ten steps of four crops; keywords replace these."""

    def make(**changes: Any) -> TrainSettings:
        values: dict[str, Any] = {
            "crops": 40,
            "batch": 4,
            "micro_batch": 4,
            "size_px": 16,
            "rate": 1e-3,
            "rate_schedule": "cosine",
            "warmup_crops": 12,
            "ema_decay": 0.9,
            "clip_norm": 1.0,
            "precision": "no",
            "seed": 3,
            "checkpoint_crops": 1000,
            "keep_checkpoints": 2,
            "keep_every": 0,
            "workers": 0,
        }
        return TrainSettings(**(values | changes))

    return make


@pytest.fixture(scope="session")
def random_crops() -> Callable[..., RandomCrops]:
    """Make the crops from ``first`` on, up to crop 40."""

    def make(first: int, last: int = 40) -> RandomCrops:
        return RandomCrops(first, last)

    return make
