"""Array prediction against the slide loop on the same pixels."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cytoseg.errors import PredictionError
from cytoseg.geometry import Size
from cytoseg.predict.array import predict_array
from cytoseg.slides.stitching import Stitcher
from cytoseg.slides.tiling import TileGrid

Maps = Mapping[str, NDArray[np.float32]]


def shaded(tiles: NDArray[np.uint8]) -> Maps:
    """A predictor that sees where in its tile a pixel lies, so that blending shows."""
    side = tiles.shape[2]
    dark = tiles[..., 0] / 255 * np.linspace(0.5, 1, side, dtype=np.float32)
    probabilities = np.stack([dark, 1 - dark], axis=1).astype(np.float32)
    return {"probabilities": probabilities, "disagreement": probabilities[:, 0] / 2}


@pytest.mark.parametrize(("width", "height"), [(20, 14), (9, 8), (30, 5)])
@pytest.mark.parametrize("batch", [1, 2, 64])
def test_tiles_are_blended_to_the_bits_of_the_stitcher(width: int, height: int, batch: int, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    found = predict_array(picture, shaded, tile_px=8, overlap_px=3, batch=batch)
    grid = TileGrid(Size(width, height), 8, 3)
    stitcher = Stitcher(grid.size, channels=3, tile_px=8, overlap_px=3, waiting=tmp_path / "waiting")
    whole = np.zeros((3, height, width), np.float32)
    white = np.full((height + 8, width + 8, 3), 255, np.uint8)
    white[:height, :width] = picture
    rows = list(grid.rows())
    for row, below in zip(rows, [*(row[0].y for row in rows[1:]), height], strict=True):
        stitcher.begin_row(row[0].y, below=below)
        for tile, right in zip(row, [*(tile.x for tile in row[1:]), width], strict=True):
            maps = shaded(white[None, tile.y : tile.y + 8, tile.x : tile.x + 8])
            joined = np.concatenate([maps["probabilities"][0], maps["disagreement"]])
            patch = stitcher.add(joined, right=right)
            rows_of, columns_of = slice(patch.y, patch.y + patch.maps.shape[1]), slice(patch.x, right)
            whole[:, rows_of, columns_of] = patch.maps
    np.testing.assert_array_equal(found[0], whole[:2])
    np.testing.assert_array_equal(found[1], whole[2])


def test_what_fits_into_a_tile_is_predicted_whole(dark_is_cell: Callable[[NDArray[np.uint8]], Maps]) -> None:
    picture = np.array([[0, 200, 127]], np.uint8)[..., None].repeat(3, axis=2)
    seen = []

    def watched(tiles: NDArray[np.uint8]) -> Maps:
        seen.append(tiles.shape)
        return dark_is_cell(tiles)

    probabilities, disagreement = predict_array(picture, watched, tile_px=8, overlap_px=2, batch=4)
    assert seen == [(1, 1, 3, 3)]
    assert probabilities.tolist() == [[[0.0, 1.0, 0.0]], [[1.0, 0.0, 1.0]]]
    np.testing.assert_array_equal(disagreement, picture[..., 0].astype(np.float32) / 255)


@pytest.mark.parametrize("side", [4, 12])
def test_numbers_that_are_not_finite_are_refused(side: int) -> None:
    def broken(tiles: NDArray[np.uint8]) -> Maps:
        maps = dict(shaded(tiles))
        maps["disagreement"] = np.full_like(maps["disagreement"], np.nan)
        return maps

    with pytest.raises(PredictionError, match="NaN or infinite values"):
        predict_array(np.zeros((side, side, 3), np.uint8), broken, tile_px=8, overlap_px=2, batch=1)
