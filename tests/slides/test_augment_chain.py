import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.data import get_track_meta
from monai.transforms import (
    Compose,
    RandFlipd,
    RandRotate90d,
    RandScaleIntensityd,
    RandShiftIntensityd,
    ScaleIntensityRanged,
    ToTensord,
)
from torch import Tensor

from cytoseg.slides.crops import augmentation
from cytoseg.slides.fast_transforms import Chain
from cytoseg.slides.settings import CropsSection


@pytest.fixture
def pixels() -> Tensor:
    return torch.arange(3 * 6 * 6, dtype=torch.uint8).reshape(3, 6, 6) * 2


def _monais() -> list[Callable[..., Any]]:
    """MONAI's own transforms, spelt out: what crops have been since the first release."""
    keys = ["image"]
    return [
        RandFlipd(keys, prob=0.5, spatial_axis=0),
        RandFlipd(keys, prob=0.5, spatial_axis=1),
        RandRotate90d(keys, prob=0.75, max_k=3),
        RandScaleIntensityd(keys, factors=0.2, prob=0.5, channel_wise=True),
        RandShiftIntensityd(keys, offsets=25.5, prob=0.5, channel_wise=True),
        ScaleIntensityRanged(keys, a_min=0, a_max=255, b_min=-1, b_max=1, clip=True),
        ToTensord(keys, dtype=torch.float32, track_meta=False),
    ]


def _composed(pixels: Tensor, seeds: range) -> list[Tensor]:
    compose = Compose(_monais())
    return [compose.set_random_state(seed=seed)({"image": pixels})["image"] for seed in seeds]


def test_a_chain_gives_what_monais_compose_gives(pixels: Tensor) -> None:
    expected = _composed(pixels, range(60))
    assert len({crop.contiguous().numpy().tobytes() for crop in expected}) > 50
    for steps in (augmentation(CropsSection(flips=True, turns=True, jitter=0.2)), _monais()):
        chain = Chain(steps)
        for seed, crop in enumerate(expected):
            found = chain({"image": pixels}, seed=seed)["image"]
            assert type(found) is Tensor
            assert torch.equal(found, crop)


def test_seeds_reach_to_the_end_of_32_bits(pixels: Tensor) -> None:
    seeds = range(2**32 - 3, 2**32)
    chain = Chain(_monais())
    for seed, crop in zip(seeds, _composed(pixels, seeds), strict=True):
        assert torch.equal(chain({"image": pixels}, seed=seed)["image"], crop)


def test_a_pickled_chain_and_one_of_shared_transforms_agree(pixels: Tensor) -> None:
    steps = augmentation(CropsSection(flips=True, turns=True, jitter=0.2))
    first, second = Chain(steps), Chain(steps)
    expected = [first({"image": pixels}, seed=seed)["image"] for seed in range(10)]
    for chain in (second, first, pickle.loads(pickle.dumps(first))):
        assert all(torch.equal(chain({"image": pixels}, seed=i)["image"], crop) for i, crop in enumerate(expected))


def test_errors_come_out_as_they_are_and_monais_records_are_switched_on_again(pixels: Tensor) -> None:
    def fail(_: Any) -> Any:
        assert not get_track_meta()
        raise LookupError("no such slide")

    assert get_track_meta()
    with pytest.raises(LookupError, match=r"^no such slide$"):
        Chain([*_monais(), fail])({"image": pixels}, seed=0)
    assert get_track_meta()
