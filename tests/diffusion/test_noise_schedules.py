import subprocess
import sys

import numpy as np
import pytest

from cytoseg.diffusion.import_lucidrains import cosine_beta_schedule, linear_beta_schedule, sigmoid_beta_schedule
from cytoseg.diffusion.noise_schedules import signal_shares, timesteps_at_snr

SCHEDULES = ["linear", "cosine", "sigmoid"]


def test_linear_schedule_by_hand() -> None:
    # 1000 variances from 0.0001 to 0.02; the first two leave (1 - b0) and (1 - b0)(1 - b1).
    second = 0.0001 + (0.02 - 0.0001) / 999
    np.testing.assert_allclose(signal_shares("linear", 1000)[:2], [0.9999, 0.9999 * (1 - second)], rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("timesteps", [25, 100, 1000])
def test_each_schedule_is_that_of_denoising_diffusion_pytorch(schedule: str, timesteps: int) -> None:
    betas = {"linear": linear_beta_schedule, "cosine": cosine_beta_schedule, "sigmoid": sigmoid_beta_schedule}
    wanted = np.cumprod(1 - betas[schedule](timesteps).double().numpy())
    np.testing.assert_allclose(signal_shares(schedule, timesteps), wanted, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize(("schedule", "expected"), [("sigmoid", (79, 200, 308)), ("cosine", (103, 203, 300))])
def test_the_published_noise_levels_on_other_schedules(schedule: str, expected: tuple[int, ...]) -> None:
    shares = signal_shares("linear", 1000)[[50, 100, 150]]
    published = (10 * np.log10(shares / (1 - shares))).tolist()
    assert published == pytest.approx([15.1, 9.3, 5.65], abs=0.05)
    assert timesteps_at_snr(signal_shares(schedule, 1000), published) == expected


def test_every_timestep_is_found_by_its_own_ratio() -> None:
    shares = signal_shares("linear", 100)
    ratios = 10 * np.log10(shares / (1 - shares))
    assert timesteps_at_snr(shares, ratios.tolist()) == tuple(range(100))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_signal_falls_from_almost_all_to_almost_none(schedule: str) -> None:
    shares = signal_shares(schedule, 1000)
    assert shares.shape == (1000,)
    assert (np.diff(shares) < 0).all()
    assert shares[0] > 0.999
    assert 0 < shares[-1] < 1e-4


def test_a_recipe_is_read_without_torch() -> None:
    program = "import sys, cytoseg.recipe; print({'torch', 'monai', 'denoising_diffusion_pytorch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
