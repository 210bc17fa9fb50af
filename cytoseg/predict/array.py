"""Predicting a picture in memory, with the tiles and the blending of ``predict_slide``."""

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
    """Predict each pixel of a picture that is in memory.

    A picture that fits into a tile is predicted whole, as ``evaluate`` does; a larger one by tiles, to the same numbers
    as ``predict_slide`` computes where it skips no glass.

    Args:
        picture: (H, W, 3) uint8 RGB, at the resolution that the predictor was trained at.
        predictor: Computes the maps of a batch of tiles.
        tile_px: Side of a tile.
        overlap_px: Pixels that neighbours share, at most half a tile.
        batch: Tiles computed together.

    Raises:
        PredictionError: If the predictor gives numbers that are not finite.
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
    """Give probabilities and, as the last channel, disagreement, (K + 1, H, W), blended where tiles overlap."""
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
    assert sums is not None  # a grid has a tile
    sums /= weights
    return sums


def _cut(picture: NDArray[np.uint8], tile: Tile, side: int) -> NDArray[np.uint8]:
    """Cut a tile out; what reaches over the edge, on a picture narrower than a tile, is white as on a slide."""
    part = picture[tile.y : tile.y + side, tile.x : tile.x + side]
    right, below = side - part.shape[1], side - part.shape[0]
    return np.pad(part, ((0, below), (0, right), (0, 0)), constant_values=255) if right or below else part
