"""Predicting crops of any size with the run's tiles."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from cytoseg.interpreter.bundle import EnsemblePredictor
from cytoseg.predict.array import Maps, predict_array
from cytoseg.recipe import Recipe

WHOLE_PX = 2**20
"""Pixels of the largest crop that is predicted whole. Memory grows with the crop: MLPs take two kilobytes per pixel or
more."""


def predict_crops(predictor: EnsemblePredictor, recipe: Recipe) -> Callable[[NDArray[np.uint8]], Maps]:
    """Return the function that predicts a crop for a score or an edit: whole, or if it is too large in tiles.

    Tiles give what ``predict`` gives on a slide. Where no tile border is within reach of the features, they differ from
    the whole crop by rounding only. Near borders they differ a little: with the default overlap, MLPs on filters gave 2
    of 10,000 pixels of a synthetic slide another class, and probabilities differed by at most .04.

    Args:
        predictor: Computes the maps.
        recipe: The recipe, with the tiles of ``predict``.

    Returns:
        A function from (H, W, 3) uint8 RGB to probabilities (K, H, W) and disagreement (H, W), float32; it raises
        PredictionError if they are not finite in a crop that is too large.
    """
    tile_px, settings = recipe.tile_px(), recipe.predict
    batch = settings.batch or predictor.tiles_at_once(tile_px)

    def maps_of(picture: NDArray[np.uint8]) -> Maps:
        if picture.shape[0] * picture.shape[1] > WHOLE_PX:
            return predict_array(picture, predictor, tile_px=tile_px, overlap_px=settings.overlap_px, batch=batch)
        maps = predictor(picture[None])
        return maps["probabilities"][0], maps["disagreement"][0]

    return maps_of


def tiles_of_large_crops(recipe: Recipe, sizes: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
    """Return side and overlap of the tiles, on which the result depends; None if all crops are predicted whole.

    Args:
        recipe: The recipe.
        sizes: Height and width of each crop.
    """
    large = any(height * width > WHOLE_PX for height, width in sizes)
    return (recipe.tile_px(), recipe.predict.overlap_px) if large else None
