from typing import Any

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler
from torch import Tensor, nn

from cytoseg.diffusion.sample import ddim, predict_x0_and_noise, starting_noise
from cytoseg.diffusion.schedule import alpha_bar
from cytoseg.diffusion.unet import Architecture, build_diffusion, build_unet

OBJECTIVES = {"pred_noise": "epsilon", "pred_x0": "sample", "pred_v": "v_prediction"}


class Painter(nn.Module):
    """A network whose x0 is 0.9 tanh(x_t + t / T), so never clipped, whatever it is asked to predict."""

    def __init__(self, alpha_bars: Tensor, objective: str) -> None:
        super().__init__()
        self._bars, self._objective = alpha_bars.float(), objective
        self.asked: list[int] = []

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        self.asked.append(int(t[0]))
        signal, noise = self._bars[t[0]].sqrt(), (1 - self._bars[t[0]]).sqrt()
        x0 = 0.9 * torch.tanh(xt + t[0] / len(self._bars))
        eps = (xt - signal * x0) / noise
        return {"pred_noise": eps, "pred_x0": x0, "pred_v": signal * eps - noise * x0}[self._objective]


def _monai_ddim(network: nn.Module, noise: Tensor, objective: str) -> Tensor:
    scheduler: Any = DDIMScheduler(1000, "linear_beta", clip_sample=False, prediction_type=OBJECTIVES[objective])
    scheduler.set_timesteps(1000)
    xt = noise
    for t in scheduler.timesteps.tolist():
        xt, _ = scheduler.step(network(xt, torch.full((len(xt),), t)), t, xt)
    return xt


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ddim_equals_monai_s(objective: str) -> None:
    # All 1000 timesteps: only then do MONAI's stride (T // steps) and its timesteps (linspace) agree with each other.
    bars = alpha_bar("linear", 1000)
    noise = starting_noise(0, 2, size_px=4)
    ours = ddim(Painter(bars, objective), noise, alpha_bars=bars, objective=objective, steps=1000)
    theirs = _monai_ddim(Painter(bars, objective), noise, objective)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_timesteps_run_evenly_from_the_last_to_the_first() -> None:
    bars = alpha_bar("cosine", 10)
    network, done = Painter(bars, "pred_x0"), list[int]()
    ddim(network, starting_noise(0, 1, size_px=4), alpha_bars=bars, objective="pred_x0", steps=4, on_step=done.append)
    assert network.asked == [9, 6, 3, 0]
    assert done == [1, 2, 3, 4]


def test_a_network_that_knows_the_crop_gives_the_crop() -> None:
    crop = torch.linspace(-1, 1, 48).reshape(1, 3, 4, 4)
    bars = alpha_bar("linear", 100)

    class Knows(nn.Module):
        def forward(self, xt: Tensor, _t: Tensor) -> Tensor:
            return crop.expand_as(xt)

    sample = ddim(Knows(), starting_noise(1, 3, size_px=4), alpha_bars=bars, objective="pred_x0", steps=5)
    torch.testing.assert_close(sample, crop.expand(3, 3, 4, 4))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_x0_and_noise_equal_the_package_s_where_clipped(objective: str) -> None:
    architecture = Architecture(8, (1, 2), 100, "linear", objective)
    unet = build_unet(architecture).eval()
    process: Any = build_diffusion(unet, architecture, size_px=8)
    xt = 3 * starting_noise(2, 2, size_px=8)
    with torch.inference_mode():
        theirs = process.model_predictions(xt, torch.tensor([60, 60]), clip_x_start=True, rederive_pred_noise=True)
        output = unet(xt, torch.tensor([60, 60]))
    x0, eps = predict_x0_and_noise(output, xt, alpha_bar("linear", 100)[60].float(), objective=objective)
    assert (theirs.pred_x_start.abs() == 1).any()
    torch.testing.assert_close(x0, theirs.pred_x_start, rtol=0, atol=1e-4)
    torch.testing.assert_close(eps, theirs.pred_noise, rtol=0, atol=1e-4)


def test_noise_of_a_sample_depends_on_seed_and_number_only() -> None:
    three = starting_noise(5, 3, size_px=4)
    assert three.shape == (3, 3, 4, 4)
    assert torch.equal(starting_noise(5, 2, size_px=4), three[:2])
    assert not torch.equal(three[0], three[1])
    assert not torch.equal(starting_noise(6, 1, size_px=4)[0], three[0])


def test_samples_do_not_depend_on_their_neighbours(tiny: Architecture) -> None:
    unet, bars = build_unet(tiny).eval(), alpha_bar("cosine", 10)

    def draw(noise: Tensor) -> Tensor:
        return ddim(unet, noise, alpha_bars=bars, objective="pred_v", steps=3)

    noise = starting_noise(0, 3, size_px=8)
    together = draw(noise)
    assert together.abs().max() <= 1
    torch.testing.assert_close(torch.cat([draw(one[None]) for one in noise]), together, rtol=0, atol=1e-5)
