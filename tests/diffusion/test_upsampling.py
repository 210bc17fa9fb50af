from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.class_map import MapConditioned
from cytoseg.diffusion.network_output import crop_losses
from cytoseg.diffusion.sample import ddim, ddpm, noise_of
from cytoseg.diffusion.settings import TrainSettings
from cytoseg.diffusion.state import load_backbone
from cytoseg.diffusion.train import Watch, train
from cytoseg.diffusion.train_plan import TrainPlan
from cytoseg.diffusion.train_steps import new_state
from cytoseg.diffusion.unet import build_diffusion
from cytoseg.diffusion.upsampling import MAX_NOISE, UpsamplingInputs, noiseless_input, shrink, upsampling_input
from cytoseg.errors import CheckpointError
from tests.diffusion.conftest import RandomCrops

BARS = alpha_bar("linear", 1000)
PLAIN = Architecture(
    backbone="adm", dim=8, dim_mults=(1, 2), timesteps=10, schedule="cosine", adm=AdmSettings(blocks=1, attention=())
)
TWICE = Architecture(**{**vars(PLAIN), "upsample": 2})


def test_pixels_are_averaged() -> None:
    picture = torch.tensor([[0.0, 1.0, 4.0, 4.0], [2.0, 1.0, 4.0, 4.0]])[None, None]
    assert shrink(picture, 2).tolist() == [[[[1.0, 4.0]]]]


def test_the_network_gets_the_noise_level_of_a_picture() -> None:
    small, noise = torch.tensor([[[[0.5]]], [[[0.5]]]]), torch.ones(2, 1, 1, 1)
    given = upsampling_input(small, 2, noise=noise, deviations=torch.tensor([0.0, MAX_NOISE]))
    assert given.shape == (2, 2, 2, 2)
    torch.testing.assert_close(given[:, :, 0, 0], torch.tensor([[0.5, 0.0], [0.5 + MAX_NOISE, 0.5]]))
    torch.testing.assert_close(noiseless_input(small, 2), given[:1].expand(2, -1, -1, -1))


def test_enlarging_is_bilinear() -> None:
    given = noiseless_input(torch.tensor([[[[0.0, 1.0]]]]), 2)
    torch.testing.assert_close(given[0, 0], torch.tensor([[0.0, 0.25, 0.75, 1.0]]).expand(2, -1))


def test_each_crop_has_its_own_small_picture_by_its_number_alone() -> None:
    x0 = torch.full((400, 3, 8, 8), 0.5)
    give = UpsamplingInputs(2, 3, seed=1)
    crops, given = give(torch.arange(400), x0)
    assert torch.equal(crops, x0)
    assert given.shape == (400, 4, 8, 8)
    unknown = given[:, 3, 0, 0] == 1.0
    assert 25 <= int(unknown.sum()) <= 55
    assert bool((given[unknown, :3] == 0.0).all())
    told = 2 * MAX_NOISE * given[~unknown, 3, 0, 0]
    assert 0.0 <= float(told.min()) < 0.02 * MAX_NOISE
    assert 0.98 * MAX_NOISE < float(told.max()) <= MAX_NOISE
    spread = (given[~unknown, :3, ::8, ::8] - 0.5).flatten(1)  # a corner is one small pixel's own value
    assert float((spread / told[:, None]).std()) == pytest.approx(1.0, rel=0.1)
    _, again = give(torch.arange(200, 203), x0[:3])
    assert torch.equal(again, given[200:203])
    _, grey = UpsamplingInputs(2, 1, seed=1)(torch.arange(2), x0[:2])
    assert grey.shape == (2, 2, 8, 8)


class _OfGaussian(nn.Module):
    """The exact noise predictor of images whose pixels are N(.8 s, .1^2), s the small image enlarged; N(0, .4^2)
    without one."""

    channels = out_dim = 1
    self_condition = random_or_learned_sinusoidal_cond = False

    def forward(self, x: Tensor, times: Tensor, _classes: Tensor | None = None, given: Tensor | None = None) -> Tensor:
        bar = BARS.float()[times][:, None, None, None]
        mean, variance = (0.0 * x, 0.16) if given is None else (0.8 * given[:, :-1], 0.01)
        return (1.0 - bar).sqrt() * (x - bar.sqrt() * mean) / (bar * variance + 1.0 - bar)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_samples_have_the_mean_that_the_small_picture_gives_them(sampler: str) -> None:
    small = torch.tensor([-0.6, 0.1, 0.7])[:, None, None, None].expand(3, 1, 8, 8)
    network = MapConditioned(_OfGaussian(), noiseless_input(small, 2), scale=1.0)
    noises, how = noise_of(0, range(3), size_px=16, channels=1), {"alpha_bars": BARS, "objective": "pred_noise"}
    if sampler == "ddim":
        drawn = ddim(network, next(noises), steps=200, **how)  # type: ignore[arg-type] # of a dict
    else:
        drawn = ddpm(network, noises, steps=200, **how)  # type: ignore[arg-type] # of a dict
    torch.testing.assert_close(drawn.mean((1, 2, 3)), 0.8 * small[:, 0, 0, 0], rtol=0, atol=0.02)
    torch.testing.assert_close(drawn.flatten(1).std(1), torch.full((3,), 0.1), rtol=0.2, atol=0)


def _train(
    folder: Path, architecture: Architecture, settings: TrainSettings, *, resume: bool = False, **further: Any
) -> nn.Module:
    maps = UpsamplingInputs(architecture.upsample, architecture.channels, settings.seed)
    plan = TrainPlan(architecture, settings, {}, maps=maps if architecture.upsample > 1 else None, **further)
    state = train(
        folder,
        plan,
        lambda first: RandomCrops(first, settings.crops),
        device=torch.device("cpu"),
        resume=resume,
        watch=Watch(),
    )
    return state.ema.ema_model


def test_the_loss_of_the_exact_network_is_the_variance_that_the_small_picture_leaves() -> None:
    architecture = Architecture(dim=8, dim_mults=(1, 2), timesteps=1000, schedule="linear", channels=1)
    diffusion = build_diffusion(_OfGaussian(), architecture, size_px=16)
    generator = torch.Generator().manual_seed(0)
    small, t = torch.linspace(-0.8, 0.8, 64)[:, None, None, None].expand(64, 1, 8, 8), torch.full((64,), 150)
    drawn = torch.randn(2, 64, 1, 16, 16, generator=generator)
    x0 = 0.8 * small[:, :, :1, :1] + 0.1 * drawn[0]
    found = crop_losses(diffusion, x0, t, drawn[1], class_map=noiseless_input(small, 2)).mean()
    left = float(BARS[150]) * 0.01
    assert float(found) == pytest.approx(left / (left + 1.0 - float(BARS[150])), rel=0.05)
    assert float(crop_losses(diffusion, x0, t, drawn[1]).mean()) > 3 * float(found)


def test_it_resumes_exactly(tmp_path: Path, make_settings: Callable[..., TrainSettings]) -> None:
    whole = _train(tmp_path / "whole", TWICE, make_settings(crops=12, rate_schedule="constant"))
    _train(tmp_path / "parts", TWICE, make_settings(crops=4, rate_schedule="constant"))
    parts = _train(tmp_path / "parts", TWICE, make_settings(crops=12, rate_schedule="constant"), resume=True)
    torch.testing.assert_close(parts.state_dict(), whole.state_dict(), rtol=0, atol=0)
    before = new_state(TWICE, make_settings()).unet.get_parameter("input_blocks.0.0.weight")
    assert before.shape == (8, 3 + 4, 3, 3)
    assert bool((whole.get_parameter("input_blocks.0.0.weight") != before).all())
    _, found, _ = load_backbone(tmp_path / "parts", TWICE)
    assert found == TWICE


def test_it_starts_from_a_network_that_enlarges_nothing_but_not_the_reverse(
    tmp_path: Path, make_settings: Callable[..., TrainSettings]
) -> None:
    plain = _train(tmp_path / "plain", PLAIN, make_settings(crops=4)).eval()
    begun = _train(tmp_path / "begun", TWICE, make_settings(crops=4, rate=1e-9), init=tmp_path / "plain").eval()
    picture, time = torch.zeros(1, 3, 16, 16), torch.tensor([5])
    with torch.no_grad():
        torch.testing.assert_close(begun(picture, time), plain(picture, time), rtol=0, atol=1e-5)
    with pytest.raises(CheckpointError, match="upsample 2 there, 1 in the recipe"):
        _train(tmp_path / "back", PLAIN, make_settings(crops=4), init=tmp_path / "begun")


@pytest.mark.parametrize("upsample", [0, 17, 2.0, "2", True])
def test_an_architecture_that_enlarges_by_something_else_is_refused(upsample: Any) -> None:
    assert Architecture.from_json(TWICE.as_json()) == TWICE
    assert not {"upsample", "upsample_from"} & PLAIN.as_json().keys()
    with pytest.raises(ValueError, match="not an architecture"):
        Architecture.from_json({**TWICE.as_json(), "upsample": upsample})
