import math

import pytest
import torch
from torch import Tensor, nn

from cytoseg.diffusion.add_noise import alpha_bar, snr_db
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.denoising_error import Denoiser

LINEAR = Architecture(dim=8, dim_mults=(1, 2), timesteps=1000, schedule="linear", objective="pred_x0")
EXPECTED = 0.25
CPU = torch.device("cpu")


class OfOneColour(nn.Module):
    """Knows only images of one grey, whatever the noise."""

    def __init__(self, grey: float = EXPECTED) -> None:
        super().__init__()
        self.grey = grey

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(xt, self.grey)


def _denoiser(grey: float = EXPECTED, architecture: Architecture = LINEAR) -> Denoiser:
    return Denoiser(OfOneColour(grey), architecture, CPU)


def test_the_error_is_that_of_x0_in_units_of_the_noise() -> None:
    pictures = torch.full((2, 3, 4, 4), EXPECTED)
    pictures[1, 0, 1, 2] += 0.5
    bars = alpha_bar("linear", 1000)[[50, 400]]
    found = _denoiser().error(pictures, (50, 400))
    expected = torch.zeros(2, 4, 4)
    expected[1, 1, 2] = float((bars / (1 - bars)).mean()) * 0.5**2 / 3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_each_picture_has_the_error_that_it_has_alone() -> None:
    pictures = torch.rand((3, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    together = _denoiser().error(pictures, (100,))
    torch.testing.assert_close(together[1:2], _denoiser().error(pictures[1:2], (100,)))


def test_an_output_that_is_not_finite_is_not_hidden() -> None:
    found = _denoiser(math.inf).error(torch.zeros(1, 3, 4, 4), (50,))
    assert bool(found.isnan().all())


def test_the_residual_is_the_distance_to_what_is_redrawn() -> None:
    pictures = torch.full((2, 3, 8, 8), -0.75)
    region = torch.zeros(2, 8, 8, dtype=torch.bool)
    region[1, 2:5, 3:] = True
    found = _denoiser().residual(pictures, region, 500)
    torch.testing.assert_close(found, region * 0.5)  # of the range from -1 to 1


def test_timesteps_are_as_noisy_on_every_schedule() -> None:
    assert _denoiser().timesteps((50, 150, 500)) == (50, 150, 500)
    cosine = Architecture(dim=8, dim_mults=(1, 2), timesteps=1000, schedule="cosine", objective="pred_x0")
    own = _denoiser(architecture=cosine).timesteps((50, 500))
    wanted = snr_db(alpha_bar("linear", 1000))[[50, 500]]
    torch.testing.assert_close(snr_db(alpha_bar("cosine", 1000))[list(own)], wanted, rtol=0, atol=0.2)


@pytest.mark.parametrize("timesteps", [1, 10])
def test_a_short_schedule_uses_each_timestep_once(timesteps: int) -> None:
    short = Architecture(dim=8, dim_mults=(1, 2), timesteps=timesteps, schedule="cosine", objective="pred_x0")
    own = _denoiser(architecture=short).timesteps((400, 467, 533, 600))
    assert 1 <= len(own) == len(set(own)) <= timesteps
