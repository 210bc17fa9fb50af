import pytest
import torch
from torch import Tensor

from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.failed_samples import fault_of, saturated_share
from cytoseg.diffusion.sample import ddim, starting_noise
from cytoseg.diffusion.unet import build_unet


def _filled(*colour: float) -> Tensor:
    return torch.tensor(colour)[:, None, None].expand(3, 4, 5)


@pytest.mark.parametrize(
    "colour",
    [
        (1.0, 1.0, 1.0),  # clipped glass
        (1.2, 1.0, 1.0),
        (0.9, 0.6, 1.0),
        (-1.0, -0.4, 0.2),  # haematoxylin that takes all red
        (1.0, 0.2, -0.98),  # orange G
        (-0.9, -0.9, -0.9),  # a pyknotic nucleus
        (0.0, 0.0, 0.0),
    ],
)
def test_glass_and_stain_are_not_saturated(colour: tuple[float, float, float]) -> None:
    assert saturated_share(_filled(*colour)) == 0.0
    assert fault_of(_filled(*colour)) is None


@pytest.mark.parametrize("colour", [(1.0, -1.0, 0.3), (-1.0, 1.0, 1.0), (1.5, 0.0, -2.0), (-1.0, -1.0, -1.0)])
def test_colours_that_no_light_has_are_saturated(colour: tuple[float, float, float]) -> None:
    assert saturated_share(_filled(*colour)) == 1.0
    assert fault_of(_filled(*colour)) == "saturated"


def test_the_share_counts_pixels() -> None:
    sample = _filled(1.0, 1.0, 1.0).clone()
    sample[:, 0, :2] = _filled(1.0, -1.0, -1.0)[:, 0, :2]
    assert saturated_share(sample) == pytest.approx(2 / 20)
    assert fault_of(sample) is None  # just a tenth
    sample[:, 3, 4] = -1.0
    assert saturated_share(sample) == pytest.approx(3 / 20)
    assert fault_of(sample) == "saturated"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_value_that_is_not_finite_is_enough(value: float) -> None:
    sample = _filled(0.9, 0.9, 0.9).clone()
    sample[2, 1, 3] = value
    assert fault_of(sample) == "not finite"


def test_what_random_weights_draw_is_saturated() -> None:
    unet = build_unet(
        Architecture(dim=8, dim_mults=(1, 2), timesteps=50, schedule="linear", objective="pred_noise")
    ).eval()
    noise, bars = starting_noise(0, 2, size_px=16), alpha_bar("linear", 50)
    drawn = ddim(unet, noise, alpha_bars=bars, objective="pred_noise", steps=10)
    assert [fault_of(sample) for sample in drawn] == ["saturated", "saturated"]
