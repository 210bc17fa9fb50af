"""Our implementation against the dense reference, from image to vote."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.architecture import Architecture, tap_names
from cytoseg.diffusion.unet import build_unet
from cytoseg.features.extract import FeatureExtractor, gather, pad_to_multiple, shared_noise, to_input
from cytoseg.features.settings import FeatureSettings
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.native_inference import member_probabilities
from cytoseg.interpreter.vote import vote
from cytoseg.slides.image import read_picture
from tests.interpreter import oracle

TINY = Architecture(dim=8, dim_mults=(1, 2, 4), timesteps=1000, schedule="linear", objective="pred_noise")
EVERY = tap_names(TINY)
NOISE_SEED = 3
MakeEnsemble = Callable[..., Ensemble]
PlainMember = Callable[[Ensemble, int], nn.Sequential]

sizes = pytest.mark.parametrize(("height", "width"), [(12, 20), (13, 9), (7, 22)])
timesteps_too = pytest.mark.parametrize("timesteps", [(50,), (50, 100, 150)])
taps_too = pytest.mark.parametrize("taps", [EVERY, EVERY[1::3], EVERY[-1:], ("block2.block1", "block0.attention")])


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    return build_unet(TINY, seed=1).eval()


def _picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    drawn = np.random.default_rng(height * width).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return drawn.repeat(3, axis=2) if channels == 1 else drawn


def _extractor(unet: nn.Module, taps: tuple[str, ...], timesteps: tuple[int, ...]) -> FeatureExtractor:
    settings = FeatureSettings(taps, timesteps, scale=1, noise_seed=NOISE_SEED)
    return FeatureExtractor(unet, TINY, settings, device=torch.device("cpu"))


def _dense(unet: nn.Module, picture: np.ndarray, taps: tuple[str, ...], timesteps: tuple[int, ...]) -> Tensor:
    """One row of features for each pixel of the image, in reading order."""
    height, width = picture.shape[:2]
    x0 = pad_to_multiple(torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1, TINY.multiple_px)
    eps = shared_noise(NOISE_SEED, *x0.shape[-2:])
    stack = oracle.dense_features(
        unet, x0, taps, timesteps, alpha_bars=alpha_bar(TINY.schedule, TINY.timesteps), eps=eps
    )
    return oracle.pixels_of(stack[:, :, :height, :width])


@sizes
@timesteps_too
@taps_too
def test_gathered_features_are_those_of_the_dense_stack(
    unet: nn.Module, taps: tuple[str, ...], timesteps: tuple[int, ...], height: int, width: int
) -> None:
    picture = _picture(height, width)
    every = [(x, y) for y in range(height) for x in range(width)]
    found = gather(_extractor(unet, taps, timesteps)(to_input(picture[None])), every)
    expected = _dense(unet, picture, taps, timesteps)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert float(expected.std(0).min()) > 1e-3  # no channel that is the same everywhere


@sizes
@timesteps_too
@taps_too
def test_folded_probabilities_and_votes_are_those_of_separate_interpreters(
    make_ensemble: MakeEnsemble,
    plain_member: PlainMember,
    unet: nn.Module,
    *,
    taps: tuple[str, ...],
    timesteps: tuple[int, ...],
    height: int,
    width: int,
) -> None:
    picture = _picture(height, width)
    pixels = _dense(unet, picture, taps, timesteps)
    ensemble = make_ensemble(10, pixels.shape[1], 4)
    ensemble.mean.copy_(pixels.mean(0))
    ensemble.scale.copy_(pixels.std(0))
    found = member_probabilities(ensemble, _extractor(unet, taps, timesteps)(to_input(picture[None])))
    with torch.no_grad():
        standard = (pixels - ensemble.mean) / ensemble.scale
        expected = torch.stack([plain_member(ensemble, m)(standard).softmax(1) for m in range(10)])
    torch.testing.assert_close(found[:, 0].permute(0, 2, 3, 1).reshape(expected.shape), expected, atol=1e-4, rtol=0)
    soft, hard = (vote(found, rule=rule)[0].argmax(0).ravel().tolist() for rule in ("soft", "hard"))
    assert soft == oracle.soft_vote(expected)
    assert hard == oracle.hard_vote(expected)
    assert len(set(soft)) > 1
    assert soft != hard  # else one of them would be tested twice


def test_a_grey_picture_has_the_features_of_its_repetition_in_three_channels(unet: nn.Module) -> None:
    grey = _picture(13, 9, channels=1)
    file = BytesIO()
    Image.fromarray(grey[..., 0]).save(file, "PNG")  # one channel on disk
    read = read_picture(file.getvalue(), name="grey.png")
    extractor = _extractor(unet, EVERY, (50,))
    found = gather(extractor(to_input(read[None])), [(x, y) for y in range(13) for x in range(9)])
    torch.testing.assert_close(found, _dense(unet, grey, EVERY, (50,)), atol=1e-5, rtol=0)
