"""Predicting an image in memory, tiled and blended like a slide."""

import numpy as np
from numpy.typing import NDArray

from cytoseg.errors import PredictionError
from cytoseg.geometry import Size
from cytoseg.predict.slide import Predictor
from cytoseg.slides.stitching import blend_window
from cytoseg.slides.tiling import Tile, TileGrid

Maps = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Probabilities (K, H, W), and disagreement (H, W) in nats."""


def predict_array(
    picture: NDArray[np.uint8], predictor: Predictor, *, tile_px: int, overlap_px: int, batch: int
) -> Maps:
    """Predict an image in memory.

    An image that fits into a tile is predicted whole, like in ``evaluate``; a larger one in tiles, with the same result
    as ``predict_slide`` without skipping glass.

    Args:
        picture: (H, W, 3) uint8 RGB, at the resolution of the training.
        predictor: Computes the maps of a batch of tiles.
        tile_px: Side of a tile.
        overlap_px: Pixels that neighbours share, at most half a tile.
        batch: Tiles computed together.

    Raises:
        PredictionError: If the predictor returns non-finite values.
    """
    height, width = picture.shape[:2]
    if max(height, width) <= tile_px:
        maps = predictor(picture[None])
        found = maps["probabilities"][0], maps["disagreement"][0]
    else:
        joined = _by_tiles(picture, predictor, TileGrid(Size(width, height), tile_px, overlap_px), batch=batch)
        found = joined[:-1], joined[-1]
    if not all(bool(np.isfinite(numbers).all()) for numbers in found):
        raise PredictionError("the prediction contains NaN or infinite values. Train the interpreters again.")
    return found


def _by_tiles(picture: NDArray[np.uint8], predictor: Predictor, grid: TileGrid, *, batch: int) -> NDArray[np.float32]:
    """Return probabilities and, as the last channel, disagreement, (K + 1, H, W), blended over tiles."""
    line = blend_window(grid.tile_px, grid.overlap_px)
    window = np.outer(line, line)
    height, width = picture.shape[:2]
    weights = np.zeros((height, width), np.float32)
    sums: NDArray[np.float32] | None = None
    for row in grid.rows():
        for first in range(0, len(row), batch):
            tiles = row[first : first + batch]
            maps = predictor(np.stack([_cut(picture, tile, grid.tile_px) for tile in tiles]))
            joined = np.concatenate([maps["probabilities"], maps["disagreement"][:, None]], axis=1)
            if sums is None:
                sums = np.zeros((joined.shape[1], height, width), np.float32)
            for tile, values in zip(tiles, joined, strict=True):
                seen = np.s_[tile.y : tile.y + grid.tile_px, tile.x : tile.x + grid.tile_px]
                inside = np.s_[: height - tile.y, : width - tile.x]
                sums[:, *seen] += (values * window)[:, *inside]
                weights[seen] += window[inside]
    assert sums is not None  # a grid has at least one tile
    sums /= weights
    return sums


def _cut(picture: NDArray[np.uint8], tile: Tile, side: int) -> NDArray[np.uint8]:
    """Cut out a tile; beyond the edge of an image narrower than a tile it is white, as on a slide."""
    part = picture[tile.y : tile.y + side, tile.x : tile.x + side]
    right, below = side - part.shape[1], side - part.shape[0]
    return np.pad(part, ((0, below), (0, right), (0, 0)), constant_values=255) if right or below else part
