import math

import pytest
import torch

from cytoseg.diffusion.add_noise import add_noise, alpha_bar, snr_db
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.unet import build_diffusion, build_unet


def test_signal_to_noise_of_the_published_timesteps() -> None:
    table = snr_db(alpha_bar("linear", 1000))
    assert table[[50, 100, 150]].tolist() == pytest.approx([15.1, 9.3, 5.65], abs=0.05)


def test_ratios_in_decibels() -> None:
    shares = torch.tensor([0.5, 10 / 11, 1 / 11], dtype=torch.float64)
    torch.testing.assert_close(snr_db(shares), torch.tensor([0.0, 10.0, -10.0], dtype=torch.float64))


@pytest.mark.parametrize("schedule", ["linear", "cosine", "sigmoid"])
def test_the_training_process_uses_the_same_schedule(schedule: str) -> None:
    architecture = Architecture(dim=8, dim_mults=(1, 2), timesteps=100, schedule=schedule, objective="pred_noise")
    diffusion = build_diffusion(build_unet(architecture), architecture, size_px=16)
    bars = dict(diffusion.named_buffers())["alphas_cumprod"]
    torch.testing.assert_close(bars, alpha_bar(schedule, 100).float(), rtol=1e-6, atol=1e-9)


def test_noise_is_added_in_proportion() -> None:
    x0, eps = torch.full((1, 3, 2, 2), 0.5), torch.full((1, 3, 2, 2), -1.0)
    torch.testing.assert_close(add_noise(x0, 0.36, eps), torch.full((1, 3, 2, 2), 0.6 * 0.5 - 0.8))
    torch.testing.assert_close(add_noise(x0, 1.0, eps), x0)
    torch.testing.assert_close(add_noise(x0, 0.0, eps), eps)


def test_noisy_crops_keep_their_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 1, 3, 64, 64, generator=generator)
    assert math.isclose(add_noise(x0, 0.3, eps).var().item(), 1.0, abs_tol=0.03)
