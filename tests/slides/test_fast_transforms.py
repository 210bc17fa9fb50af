from typing import Any

import pytest
import torch
from monai.data import get_track_meta
from monai.transforms import Compose, RandFlipd, RandRotate90d, RandStdShiftIntensityd, ScaleIntensityRanged
from torch import Tensor

from cytoseg.slides.fast_transforms import PlainCompose, QuickFlipd, QuickRotate90d, ToUnitd


@pytest.fixture
def pixels() -> Tensor:
    return torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(3, 4, 5) * 4


@pytest.mark.parametrize(
    ("ours", "monais"),
    [
        (QuickFlipd(["image"], prob=0.5, spatial_axis=0), RandFlipd(["image"], prob=0.5, spatial_axis=0)),
        (QuickFlipd(["image"], prob=0.5, spatial_axis=1), RandFlipd(["image"], prob=0.5, spatial_axis=1)),
        (QuickRotate90d(["image"], prob=0.75, max_k=3), RandRotate90d(["image"], prob=0.75, max_k=3)),
    ],
)
def test_flips_and_turns_are_monais(ours: Any, monais: Any, pixels: Tensor) -> None:
    changed = 0
    for seed in range(20):
        mine = ours.set_random_state(seed=seed)({"image": pixels, "kept": 1})
        theirs = monais.set_random_state(seed=seed)({"image": pixels})["image"].as_tensor()
        assert torch.equal(mine["image"], theirs)
        assert mine["kept"] == 1
        changed += mine["image"].shape != pixels.shape or not torch.equal(mine["image"], pixels)
    assert 0 < changed < 20


@pytest.mark.parametrize("factor", [1, 1.3, -0.5])  # jitter leaves values beyond 255 and below 0
def test_scaling_is_monais_to_the_last_bit(factor: float) -> None:
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    values = values if factor == 1 else values * factor
    monais = ScaleIntensityRanged(["image"], a_min=0, a_max=255, b_min=-1, b_max=1, clip=True)
    ours = ToUnitd(["image"])({"image": values})["image"]
    assert ours.dtype == torch.float32
    assert torch.equal(ours, monais({"image": values})["image"].as_tensor())


def test_scaling_spares_its_input_and_lays_out_channel_by_channel(pixels: Tensor) -> None:
    turned = pixels.float().rot90(1, (1, 2))
    before = turned.clone()
    assert ToUnitd(["image"])({"image": turned})["image"].is_contiguous()
    assert torch.equal(turned, before)


def test_a_plain_compose_gives_the_values_of_monais_as_plain_tensors(pixels: Tensor) -> None:
    steps = [RandFlipd("image", prob=0.5, spatial_axis=0), RandStdShiftIntensityd("image", prob=0.5, factors=0.3)]
    ours, monais = PlainCompose(steps), Compose(steps)
    for seed in range(8):
        ours.set_random_state(seed=seed)
        mine = ours({"image": pixels.float()})["image"]
        monais.set_random_state(seed=seed)
        assert type(mine) is Tensor
        assert torch.equal(mine, monais({"image": pixels.float()})["image"].as_tensor())
    assert get_track_meta()


def test_a_plain_compose_that_fails_leaves_monais_setting_as_it_was() -> None:
    with pytest.raises(RuntimeError):
        PlainCompose([RandFlipd("image", prob=1.0)])({})
    assert get_track_meta()
