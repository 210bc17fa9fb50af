import dataclasses

import pytest
import torch
from torch import Tensor, nn

from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.loss import WATCHED_STEPS, LossGuard, LossReading, LossWindow, crop_losses, loss_weights
from cytoseg.diffusion.unet import build_diffusion, build_unet
from cytoseg.errors import CytosegError


def _reading(*losses: float, t: tuple[int, ...] | None = None, first: int = 0) -> LossReading:
    numbers = torch.arange(first, first + len(losses))
    return LossReading(numbers, torch.tensor(t or [0] * len(losses)), torch.tensor(losses))


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


def test_losses_are_averaged_in_ranges_of_timesteps() -> None:
    reading = _reading(1.0, 3.0, 8.0, t=(0, 99, 950))
    assert reading.mean == 4.0
    assert reading.by_timestep(1000) == {"0-99": 2.0, "900-999": 8.0}
    assert _reading(1.0, 3.0, t=(4, 24)).by_timestep(25) == {"3-5": 1.0, "24-24": 3.0}


class Two:
    """Stands for two processes: the other one had the crops before ours."""

    def gather(self, ours: Tensor) -> Tensor:
        theirs = ours.clone()
        theirs[:, 0] -= 1
        return torch.cat([ours, theirs])


def test_a_window_collects_steps_and_processes_in_the_order_of_the_crops() -> None:
    window = LossWindow(Two(), every=2)  # type: ignore[arg-type] # a double
    window.add(torch.tensor([1, 3]), torch.tensor([7, 8]), torch.tensor([0.25, 0.5]))
    assert not window.due
    window.add(torch.tensor([5]), torch.tensor([9]), torch.tensor([1.0]))
    assert window.due
    reading = window.read()
    assert reading.numbers.tolist() == [0, 1, 2, 3, 4, 5]
    assert reading.t.tolist() == [7, 7, 8, 8, 9, 9]
    assert reading.losses.tolist() == [0.25, 0.25, 0.5, 0.5, 1.0, 1.0]
    assert not window.due


def test_the_first_broken_crop_is_named() -> None:
    with pytest.raises(CytosegError, match=r"the loss is inf at crop 41, t = 6\. Lower training\.rate"):
        LossGuard(torch.ones(1000)).check(_reading(0.1, float("inf"), float("nan"), t=(5, 6, 7), first=40))


def test_an_explosion_is_a_mean_over_many_steps_not_one_bad_crop() -> None:
    guard = LossGuard(torch.ones(1000))
    for _ in range(WATCHED_STEPS):
        guard.check(_reading(0.02))
    guard.check(_reading(100.0))  # (49 * .02 + 100) / 50 is below the bound
    with pytest.raises(CytosegError, match=r"diverged: 3\.\d on average up to crop 9,"):
        guard.check(_reading(60.0, first=9))  # (48 * .02 + 100 + 60) / 50


def test_the_first_steps_of_an_untrained_network_are_no_explosion() -> None:
    guard = LossGuard(torch.ones(1000))
    for _ in range(WATCHED_STEPS - 1):
        guard.check(_reading(20.0))
    with pytest.raises(CytosegError, match="diverged"):
        guard.check(_reading(20.0))


def test_the_weight_of_a_timestep_is_no_explosion() -> None:
    """Predicting x0, the loss of a small t is multiplied by thousands; 0.5 of that is half of what knows nothing."""
    guard = LossGuard(torch.tensor([4000.0, 2.0]))
    for _ in range(2 * WATCHED_STEPS):
        guard.check(_reading(2000.0, 1.0, t=(0, 1)))
    for _ in range(4):
        guard.check(_reading(2000.0, 4.0, t=(0, 1)))
    with pytest.raises(CytosegError, match=r"diverged: 3\.\d on average"):
        guard.check(_reading(2000.0, 520.0, t=(0, 1)))  # (45 * .5 + 4 * 1.25 + 130.25) / 50
