import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.network_output import crop_losses, log_variance, loss_weights, variance_losses
from cytoseg.diffusion.unet import build_diffusion, build_unet

BARS = alpha_bar("linear", 100)
BETAS = 1 - BARS / torch.cat([torch.ones(1, dtype=torch.float64), BARS[:-1]])


def _drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_output_lies_between_the_bounds_in_their_logs() -> None:
    here, following = BARS[50], BARS[49]
    upper, lower = BETAS[50], BETAS[50] * (1 - following) / (1 - here)
    v = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    expected = torch.stack([lower, (lower * upper).sqrt(), upper])
    torch.testing.assert_close(log_variance(v, here, following).exp(), expected)


def test_steps_that_leave_timesteps_out_take_back_the_noise_of_all() -> None:
    upper = log_variance(torch.ones(1, dtype=torch.float64), BARS[60], BARS[20])
    torch.testing.assert_close(upper.exp(), 1 - (1 - BETAS[21:61]).prod()[None])


def test_behind_the_last_step_both_bounds_are_the_upper_one() -> None:
    found = log_variance(torch.tensor([-1.0, 1.0], dtype=torch.float64), BARS[0], torch.ones(()).double())
    torch.testing.assert_close(found.exp(), BETAS[:1].expand(2))


@pytest.mark.parametrize("t", [1, 37, 99])
def test_the_loss_is_the_divergence_of_the_predicted_step_from_the_true_one(t: int) -> None:
    x0, eps, output, v = (_drawn(1, 3, 4, 4, seed=seed) for seed in range(4))
    x0, v = x0.clamp(-1, 1), v.clamp(-1, 1)
    xt = BARS[t].sqrt() * x0 + (1 - BARS[t]).sqrt() * eps

    def mean_given(noise: Tensor) -> Tensor:
        return (xt - BETAS[t] / (1 - BARS[t]).sqrt() * noise) / (1 - BETAS[t]).sqrt()

    true_variance = BETAS[t] * (1 - BARS[t - 1]) / (1 - BARS[t])
    true = torch.distributions.Normal(mean_given(eps), true_variance.sqrt())
    predicted = torch.distributions.Normal(mean_given(output), (0.5 * log_variance(v, BARS[t], BARS[t - 1])).exp())
    expected = torch.distributions.kl_divergence(true, predicted).mean() / math.log(2)
    found = variance_losses(v, output, x0, eps, t=torch.tensor([t]), alpha_bars=BARS)
    torch.testing.assert_close(found, expected[None])


def test_at_the_last_step_the_probabilities_of_all_grey_levels_add_up_to_1() -> None:
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)
    mean, bits = 0.3, []
    for level in levels:
        x0 = level.expand(1, 1, 1, 1)
        # Noise that makes the predicted mean the same for all levels.
        apart = mean - x0
        eps = apart / (BETAS[0] / ((1 - BARS[0]) * (1 - BETAS[0])).sqrt())
        bits.append(variance_losses(torch.zeros_like(x0), 0 * eps, x0, eps, t=torch.tensor([0]), alpha_bars=BARS)[0])
    probabilities = torch.exp2(-torch.stack(bits))
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-6)
    assert float(levels[probabilities.argmax()]) == pytest.approx(mean, abs=1 / 255)


def test_only_the_variance_learns_from_it() -> None:
    v, output = _drawn(2, 3, 4, 4, seed=5).requires_grad_(), _drawn(2, 3, 4, 4, seed=6).requires_grad_()
    x0, eps = _drawn(2, 3, 4, 4, seed=7).clamp(-1, 1), _drawn(2, 3, 4, 4, seed=8)
    variance_losses(v, output, x0, eps, t=torch.tensor([1, 50]), alpha_bars=BARS).sum().backward()
    assert output.grad is None
    assert v.grad is not None
    assert bool((v.grad != 0).flatten(1).any(1).all())


def test_a_variance_that_fits_costs_less() -> None:
    x0, eps = torch.zeros(1, 1, 8, 8, dtype=torch.float64), _drawn(1, 1, 8, 8, seed=9)
    losses = [
        float(variance_losses(torch.full_like(x0, v), eps, x0, eps, t=torch.tensor([3]), alpha_bars=BARS))
        for v in (-1.0, 0.0, 1.0)
    ]
    assert losses[0] == pytest.approx(0, abs=1e-9)
    assert losses[0] < losses[1] < losses[2]


class Silent(nn.Module):
    """A network that predicts 0."""

    channels = out_dim = 3
    self_condition = random_or_learned_sinusoidal_cond = False

    def forward(self, xt: Tensor, _t: Tensor, _self_cond: None = None) -> Tensor:
        return torch.zeros_like(xt)


@pytest.mark.parametrize("objective", ["pred_noise", "pred_x0", "pred_v"])
def test_the_mean_is_the_loss_of_the_package(tiny: Architecture, objective: str) -> None:
    architecture = dataclasses.replace(tiny, objective=objective)
    diffusion = build_diffusion(build_unet(architecture), architecture, size_px=16)
    generator = torch.Generator().manual_seed(1)
    x0, eps = (torch.randn(3, 3, 16, 16, generator=generator) for _ in range(2))
    t = torch.tensor([0, 4, 9])
    losses = crop_losses(diffusion, x0, t, eps)
    assert losses.shape == (3,)
    torch.testing.assert_close(losses.mean(), diffusion.p_losses(x0, t, noise=eps))  # type: ignore[operator] # a method
    alone = crop_losses(diffusion, x0[1:2], t[1:2], eps[1:2])
    torch.testing.assert_close(losses[1:2], alone)


@pytest.mark.parametrize("objective", ["pred_noise", "pred_v"])
def test_every_timestep_counts_alike(tiny: Architecture, objective: str) -> None:
    # The package's weight of pred_v is abar: at the last timestep, where a sample begins, nothing would be learned.
    architecture = dataclasses.replace(tiny, objective=objective)
    assert loss_weights(architecture).tolist() == [1.0] * 10
    diffusion = build_diffusion(build_unet(architecture), architecture, size_px=16)
    assert dict(diffusion.named_buffers())["loss_weight"].tolist() == [1.0] * 10


def test_x0_counts_as_the_noise_does_where_there_is_little_and_as_itself_where_there_is_much() -> None:
    architecture = Architecture(dim=8, dim_mults=(1, 2), timesteps=1000, schedule="linear", objective="pred_x0")
    weights, bars = loss_weights(architecture).double(), alpha_bar("linear", 1000)
    assert weights[-1] == 1.0
    torch.testing.assert_close(weights[0], bars[0] / (1 - bars[0]), rtol=1e-6, atol=0)
    assert bool((weights.diff() <= 0).all())


def test_the_loss_of_v_is_by_hand(tiny: Architecture) -> None:
    architecture = dataclasses.replace(tiny, objective="pred_v")
    diffusion = build_diffusion(Silent(), architecture, size_px=4)
    bar = float(alpha_bar("cosine", 10)[9])
    losses = crop_losses(diffusion, torch.full((1, 3, 4, 4), 0.5), torch.tensor([9]), torch.full((1, 3, 4, 4), 2.0))
    assert losses.item() == pytest.approx((bar**0.5 * 2.0 - (1 - bar) ** 0.5 * 0.5) ** 2, rel=1e-5)
