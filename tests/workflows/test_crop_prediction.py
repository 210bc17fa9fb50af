from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cytoseg.diffusion.architecture import Architecture
from cytoseg.features.settings import FeatureSettings
from cytoseg.interpreter.bundle import Bundle, EnsemblePredictor
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.predict.array import predict_array
from cytoseg.recipe import load_recipe
from cytoseg.workflows import crop_prediction
from cytoseg.workflows.crop_prediction import predict_crops, tiles_of_large_crops

Tiles = NDArray[np.uint8]
RECIPE = load_recipe("quickstart", ["predict.tile_px=64", "predict.overlap_px=16"])


class _Blur:
    """Takes the mean of a pixel and its eight neighbours for the probability of the first class."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def tiles_at_once(self, side_px: int) -> int:
        assert side_px == 64
        return 3

    def __call__(self, tiles: Tiles) -> Mapping[str, NDArray[np.float32]]:
        self.sizes.append(tiles.shape[:3])
        grey = torch.from_numpy(tiles[..., 0]).float()[:, None] / 255
        mean = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(grey, (1, 1, 1, 1), mode="replicate"), 3, 1)
        first = mean.numpy()[:, 0]
        return {"probabilities": np.stack([first, 1 - first], axis=1), "disagreement": first / 2}


def _picture(height: int, width: int) -> Tiles:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _predicted(predictor: Any, picture: Tiles) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return predict_crops(cast(EnsemblePredictor, predictor), RECIPE)(picture)


def test_a_crop_up_to_the_limit_is_predicted_whole_and_a_larger_one_as_a_slide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crop_prediction, "WHOLE_PX", 100 * 150)
    predictor, picture = _Blur(), _picture(100, 150)
    whole = _predicted(predictor, picture)
    assert predictor.sizes == [(1, 100, 150)]
    monkeypatch.setattr(crop_prediction, "WHOLE_PX", 100 * 150 - 1)
    tiled = _predicted(predictor, picture)
    assert predictor.sizes[1:] == [(3, 64, 64)] * 2
    as_slide = predict_array(picture, predictor, tile_px=64, overlap_px=16, batch=3)
    for found, same, exact in zip(tiled, as_slide, whole, strict=True):
        np.testing.assert_array_equal(found, same)
        differs = np.abs(found - exact) > 1e-6
        # Tiles lie at 0, 48 and 86 of the columns, 0 and 36 of the rows: only their outermost pixels lack a neighbour.
        near = np.zeros((100, 150), bool)
        near[[36, 63]], near[:, [48, 63, 86, 111]] = True, True
        assert not (differs & ~near).any()
        assert np.abs(found - exact).max() < 0.05


def test_the_tiles_of_real_mlps_agree_with_the_whole_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = Architecture(dim=8, dim_mults=(1, 2), timesteps=1000, schedule="linear", objective="pred_noise")
    features = FeatureSettings((), (), 1, 0, ("filters",))
    ensemble = Ensemble(2, 72, 3, seed=0).eval()
    classes = RECIPE.class_list()
    bundle = Bundle(torch.nn.Identity(), architecture, ensemble, features, classes, None, "soft", "no", origin={})
    predictor = EnsemblePredictor(bundle, device=torch.device("cpu"))
    picture = np.kron(_picture(20, 20), np.ones((10, 10, 1), np.uint8))
    recipe = load_recipe("quickstart", ["predict.tile_px=128", "predict.overlap_px=64"])
    whole = predict_crops(predictor, recipe)(picture)
    monkeypatch.setattr(crop_prediction, "WHOLE_PX", 1)
    tiled = predict_crops(predictor, recipe)(picture)
    apart = np.abs(tiled[0] - whole[0])
    assert apart[:, :40, :40].max() < 1e-5  # a blur of 16 px hardly reaches the other tiles from here
    assert (tiled[0].argmax(0) == whole[0].argmax(0)).mean() > 0.98


@pytest.mark.parametrize(("sizes", "wanted"), [([(1024, 1024)], None), ([(9, 9), (1024, 1025)], (64, 16))])
def test_tiles_decide_only_where_a_crop_is_large(sizes: list[tuple[int, int]], wanted: tuple[int, int] | None) -> None:
    assert tiles_of_large_crops(RECIPE, sizes) == wanted
