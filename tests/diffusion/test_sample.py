from collections.abc import Iterator
from typing import Any

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn

from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.sample import ddim, ddpm, noise_of, predict_x0_and_noise, starting_noise
from cytoseg.diffusion.unet import build_diffusion, build_unet
from cytoseg.seeds import generator_for

OBJECTIVES = {"pred_noise": "epsilon", "pred_x0": "sample", "pred_v": "v_prediction"}


SHORT = Architecture(dim=8, dim_mults=(1, 2), timesteps=50, schedule="linear", objective="pred_noise")


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


class Bounded(nn.Module):
    """A small U-Net whose x0 lies within +-reach, whatever it is asked to predict."""

    def __init__(self, alpha_bars: Tensor, objective: str, *, reach: float) -> None:
        super().__init__()
        self._unet, self._bars, self._objective, self._reach = build_unet(SHORT).eval(), alpha_bars, objective, reach

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        signal, noise = float(self._bars[t[0]].sqrt()), float((1 - self._bars[t[0]]).sqrt())
        x0 = self._reach * torch.tanh(3 * self._unet(xt, t))
        eps = (xt - signal * x0) / noise
        return {"pred_noise": eps, "pred_x0": x0, "pred_v": signal * eps - noise * x0}[self._objective]


def _respaced(scheduler: Any, alpha_bars: Tensor) -> Any:
    """Make a scheduler of MONAI's walk through these alpha_bars, of which it has as many as timesteps."""
    before = torch.cat([torch.ones(1), alpha_bars[:-1].float()])
    scheduler.alphas_cumprod = alpha_bars.float()
    scheduler.alphas = scheduler.alphas_cumprod / before
    scheduler.betas = 1 - scheduler.alphas
    scheduler.set_timesteps(len(alpha_bars))
    return scheduler


STEPS_13 = [49, 45, 41, 37, 33, 29, 24, 20, 16, 12, 8, 4, 0]
"""13 timesteps evenly from 49 to 0, written out."""


@torch.inference_mode()
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ddim_in_few_steps_equals_monai_s(objective: str) -> None:
    bars = alpha_bar("linear", 50)
    network, noise = Bounded(bars, objective, reach=0.9), starting_noise(3, 2, size_px=8)
    scheduler = DDIMScheduler(13, clip_sample=False, prediction_type=OBJECTIVES[objective])
    scheduler = _respaced(scheduler, bars[STEPS_13[::-1]])
    xt = noise
    for index, t in zip(range(12, -1, -1), STEPS_13, strict=True):
        xt, _ = scheduler.step(network(xt, torch.full((2,), t)), index, xt)
    ours = ddim(network, noise, alpha_bars=bars, objective=objective, steps=13)
    assert xt.std() > 0.1
    torch.testing.assert_close(ours, xt, rtol=0, atol=1e-5)


def _monai_ddpm(scheduler: Any, unet: nn.Module, times: list[int], *, seed: int, number: int) -> Tensor:
    """Draw one sample: MONAI takes the noise of each step from the generator that it is given."""
    generator = generator_for(seed, number, what="sample")
    xt = torch.randn(1, 3, 8, 8, generator=generator)
    for index, t in zip(range(len(times) - 1, -1, -1), times, strict=True):
        xt, _ = scheduler.step(unet(xt, torch.full((1,), t)), index, xt, generator=generator)
    return xt


@torch.inference_mode()
@pytest.mark.parametrize(
    "objective", ["pred_v", *(pytest.param(name, marks=pytest.mark.slow) for name in OBJECTIVES if name != "pred_v")]
)
def test_ddpm_equals_monai_s(objective: str) -> None:
    bars = alpha_bar("linear", 50)
    network = Bounded(bars, objective, reach=1.2)  # so that some values are clipped and most are not
    scheduler = DDPMScheduler(
        50, "linear_beta", beta_start=0.002, beta_end=0.4, prediction_type=OBJECTIVES[objective], clip_sample=True
    )
    theirs = torch.cat([_monai_ddpm(scheduler, network, list(range(49, -1, -1)), seed=3, number=i) for i in range(2)])
    ours = ddpm(network, noise_of(3, range(2), size_px=8), alpha_bars=bars, objective=objective, steps=50)
    assert 0.01 < (ours.abs() == 1).float().mean() < 0.9
    # MONAI rounds its coefficients to float32: the last one, which is 1, comes out as 1.0000129.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=3e-5)


@torch.inference_mode()
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ddpm_in_few_steps_equals_monai_s(objective: str) -> None:
    bars = alpha_bar("linear", 50)
    network = Bounded(bars, objective, reach=1.2)
    scheduler = DDPMScheduler(13, prediction_type=OBJECTIVES[objective], clip_sample=True)
    scheduler = _respaced(scheduler, bars[STEPS_13[::-1]])
    theirs = torch.cat([_monai_ddpm(scheduler, network, STEPS_13, seed=4, number=i) for i in range(2)])
    ours = ddpm(network, noise_of(4, range(2), size_px=8), alpha_bars=bars, objective=objective, steps=13)
    assert 0.01 < (ours.abs() == 1).float().mean() < 0.9
    torch.testing.assert_close(ours, theirs, rtol=0, atol=3e-5)


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
    architecture = Architecture(dim=8, dim_mults=(1, 2), timesteps=100, schedule="linear", objective=objective)
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


def test_noise_of_every_step_depends_on_seed_and_number_only() -> None:
    together, alone = noise_of(5, [0, 4, 9], size_px=4), noise_of(5, [4], size_px=4)
    first, second = next(together), next(together)
    assert torch.equal(first[[0]], starting_noise(5, 1, size_px=4))
    assert torch.equal(next(alone)[0], first[1])
    assert torch.equal(next(alone)[0], second[1])
    assert not torch.equal(first, second)


def test_ddpm_samples_do_not_depend_on_their_neighbours(tiny: Architecture) -> None:
    unet, bars = build_unet(tiny).eval(), alpha_bar("cosine", 10)

    def draw(*numbers: int) -> Tensor:
        return ddpm(unet, noise_of(0, numbers, size_px=8), alpha_bars=bars, objective="pred_noise", steps=10)

    torch.testing.assert_close(torch.cat([draw(i) for i in (0, 1, 7)]), draw(0, 1, 7), rtol=0, atol=1e-5)


def test_ddpm_adds_no_noise_at_the_end() -> None:
    bars, asked, told = alpha_bar("linear", 100), 0, list[int]()

    def noises() -> Iterator[Tensor]:
        nonlocal asked
        for noise in noise_of(0, [0], size_px=4):
            asked += 1
            yield noise

    network = Painter(bars, "pred_x0")
    ddpm(network, noises(), alpha_bars=bars, objective="pred_x0", steps=3, on_step=told.append)
    assert network.asked == [99, 50, 0]
    assert (asked, told) == (3, [1, 2, 3])  # where it starts and two steps


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_an_output_that_is_not_finite_is_not_clipped_into_a_picture(sampler: str, bad: float) -> None:
    bars = alpha_bar("linear", 100)

    class Breaks(nn.Module):
        def forward(self, xt: Tensor, t: Tensor) -> Tensor:
            output = torch.zeros_like(xt)
            output[1] = bad if t[0] == 99 else xt[1]
            return output

    how: dict[str, Any] = {"alpha_bars": bars, "objective": "pred_noise", "steps": 3}
    noises = noise_of(0, range(2), size_px=4)
    drawn = ddim(Breaks(), next(noises), **how) if sampler == "ddim" else ddpm(Breaks(), noises, **how)
    assert drawn[0].isfinite().all()
    assert drawn[1].isnan().all()


def test_samples_do_not_depend_on_their_neighbours(tiny: Architecture) -> None:
    unet, bars = build_unet(tiny).eval(), alpha_bar("cosine", 10)

    def draw(noise: Tensor) -> Tensor:
        return ddim(unet, noise, alpha_bars=bars, objective="pred_v", steps=3)

    noise = starting_noise(0, 3, size_px=8)
    together = draw(noise)
    assert together.abs().max() <= 1
    torch.testing.assert_close(torch.cat([draw(one[None]) for one in noise]), together, rtol=0, atol=1e-5)


class KnowsTheGauss(nn.Module):
    """The best network for images whose every value is N(0.1, 0.2^2): mean and, if asked, variance in closed form."""

    MEAN, DEVIATION = 0.1, 0.2

    def __init__(self, alpha_bars: Tensor, steps: int, *, says_the_variance: bool) -> None:
        super().__init__()
        times = torch.linspace(len(alpha_bars) - 1, 0, steps).round().long().tolist()
        self.bars, self.says_the_variance = alpha_bars, says_the_variance
        self.following = dict(zip(times, [*times[1:], None], strict=True))

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        here, following = self.bars[t[0]], self.following[int(t[0])]
        total = here * self.DEVIATION**2 + 1 - here
        eps = ((1 - here).sqrt() / total * (xt - here.sqrt() * self.MEAN)).float()
        if not self.says_the_variance:
            return eps
        if following is None:
            return torch.cat([eps, torch.zeros_like(eps)], dim=1)
        upper = 1 - here / self.bars[following]
        lower = upper * (1 - self.bars[following]) / (1 - here)
        of_x0 = self.bars[following].sqrt() * upper / (1 - here)
        true = lower + of_x0**2 * self.DEVIATION**2 * (1 - here) / total
        v = 2 * (true / lower).log() / (upper / lower).log() - 1
        return torch.cat([eps, torch.full_like(eps, float(v))], dim=1)


@pytest.mark.parametrize(("says_the_variance", "deviation"), [(True, 0.2), (False, 0.053)])
def test_a_learned_variance_draws_the_right_spread_in_few_steps(says_the_variance: bool, deviation: float) -> None:
    bars = alpha_bar("linear", 1000)
    network = KnowsTheGauss(bars, 6, says_the_variance=says_the_variance)
    found = ddpm(network, noise_of(0, range(20), size_px=20), alpha_bars=bars, objective="pred_noise", steps=6)
    assert found.shape == (20, 3, 20, 20)
    assert float(found.mean()) == pytest.approx(0.1, abs=0.01)
    assert float(found.std()) == pytest.approx(deviation, rel=0.05)


def test_ddim_takes_the_prediction_and_leaves_the_variance() -> None:
    bars = alpha_bar("linear", 1000)
    noise = starting_noise(0, 2, size_px=4)
    with_it, without = (
        ddim(KnowsTheGauss(bars, 6, says_the_variance=says), noise, alpha_bars=bars, objective="pred_noise", steps=6)
        for says in (True, False)
    )
    torch.testing.assert_close(with_it, without, rtol=0, atol=0)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("scale", [0.0, 2.0])
def test_a_guide_draws_from_the_gauss_that_it_tilts(sampler: str, scale: float) -> None:
    """Wanting exp(5 x0) moves the mean by 5 times the variance, .2, for each unit of the scale; the spread stays."""
    bars = alpha_bar("linear", 1000)
    network = KnowsTheGauss(bars, 1000, says_the_variance=sampler == "ddpm")
    variance = network.DEVIATION**2

    def guide(xt: Tensor, t: int) -> Tensor:
        here = float(bars[t])
        return torch.full_like(xt, scale * 5.0 * variance * here**0.5 / (here * variance + 1 - here))

    how: dict[str, Any] = {"alpha_bars": bars, "objective": "pred_noise", "steps": 1000, "guide": guide}
    noises = noise_of(0, range(2), size_px=24)
    drawn = ddim(network, next(noises), **how) if sampler == "ddim" else ddpm(network, noises, **how)
    assert float(drawn.mean()) == pytest.approx(0.1 + 0.2 * scale, abs=0.02)
    assert float(drawn.std()) == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_guide_is_asked_at_every_step_but_the_last(sampler: str) -> None:
    bars, asked = alpha_bar("linear", 100), list[int]()

    def guide(xt: Tensor, t: int) -> Tensor:
        asked.append(t)
        return torch.zeros_like(xt)

    noises = noise_of(0, range(1), size_px=4)
    how: dict[str, Any] = {"alpha_bars": bars, "objective": "pred_x0", "steps": 3}
    network = Painter(bars, "pred_x0")
    if sampler == "ddim":
        noise = next(noises)
        drawn, plain = ddim(network, noise, **how, guide=guide), ddim(network, noise, **how)
    else:
        drawn = ddpm(network, noises, **how, guide=guide)
        plain = ddpm(network, noise_of(0, range(1), size_px=4), **how)
    assert asked == [99, 50]
    torch.testing.assert_close(drawn, plain)
