import numpy as np
import pytest
import torch

from cytoseg.anomaly.predictor import AnomalyPredictor
from cytoseg.anomaly.scores import RESIDUAL, SHAPE, TEXTURE
from cytoseg.diffusion.add_noise import alpha_bar
from tests.anomaly.maps import thresholds
from tests.anomaly.networks import NORMAL_GREY, DarkIsCell, denoiser


@pytest.mark.parametrize("channels", [1, 3])
def test_what_the_model_does_not_expect_scores_high(channels: int) -> None:
    tiles = np.full((2, 32, 32, 3), NORMAL_GREY, np.uint8)
    tiles[1, :, 16:] = 0
    found = AnomalyPredictor(DarkIsCell(), denoiser(channels=channels), thresholds())(tiles)
    assert np.abs(found[TEXTURE][0]).max() < 1e-4
    bars = alpha_bar("linear", 1000)[[400, 467, 533, 600]]
    expected = float((bars / (1 - bars)).mean()) * (NORMAL_GREY / 127.5) ** 2
    assert found[SHAPE][1, 16, 28] == pytest.approx(expected, rel=1e-3)  # far from the edge of the blur
    assert found[SHAPE][1, 16, 16] == pytest.approx(expected * 0.6, rel=0.1)
    assert found[RESIDUAL][1, 16, 28] == pytest.approx(NORMAL_GREY / 255, rel=1e-3)
    assert not found[RESIDUAL][0].any()
    np.testing.assert_array_equal(found["probabilities"][1, 1], tiles[1, ..., 0] == 0)


def test_normal_slides_are_scored_without_redrawing() -> None:
    predictor = AnomalyPredictor(DarkIsCell(), denoiser())
    assert predictor.scores == (TEXTURE, SHAPE)
    assert RESIDUAL not in predictor(np.zeros((1, 8, 8, 3), np.uint8))


def test_scores_do_not_depend_on_the_batch() -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    predictor = AnomalyPredictor(DarkIsCell(), denoiser(), thresholds())
    together, alone = predictor(tiles), predictor(tiles[1:])
    for name in predictor.scores:
        torch.testing.assert_close(together[name][1], alone[name][0])
