"""A chessboard slide of scanner size, generated in seconds by reusing compressed tiles."""

import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cytoseg.geometry import Size
from cytoseg.slides.pyramid import TILE_PX, halve, level_sizes
from tests.apps.sighted import CELL, GLASS, MPP, SQUARE_PX, squares, write_prediction

SIDE_PX = 30_000
_Pixels = NDArray[Any]


def add_vast_slide(base: Path) -> None:
    """Add slides/vast.ome.tif to the made run, and its prediction: the class map knows every second square."""
    ids = squares(2 * SQUARE_PX)  # repeated in both directions
    slide, folder = base / "slides" / "vast.ome.tif", base / "runs" / "sighted" / "predictions" / "vast"
    folder.mkdir(parents=True)
    _write(slide, np.array([GLASS, CELL], np.uint8)[ids], categorical=False)
    _write(folder / "class_map.ome.tif", ids, categorical=True)
    _write(folder / "uncertainty.ome.tif", ids.astype(np.float32), categorical=False)
    write_prediction(folder, slide, SIDE_PX)


def _write(path: Path, repeated: _Pixels, *, categorical: bool) -> None:
    size = Size(SIDE_PX, SIDE_PX)
    sizes = level_sizes(size)
    with tifffile.TiffWriter(path, ome=True) as writer:
        for index, level in enumerate(sizes):
            writer.write(
                _tiles(repeated, level),
                shape=(level.height, level.width, *repeated.shape[2:]),
                dtype=repeated.dtype,
                photometric="rgb" if repeated.ndim == 3 else "minisblack",
                tile=(TILE_PX, TILE_PX),
                compression="zlib",
                subifds=len(sizes) - 1 if index == 0 else None,
                subfiletype=0 if index == 0 else 1,
                resolution=(1e4 / (MPP * 2**index),) * 2,
                resolutionunit="CENTIMETER",
                metadata={"axes": "YXS" if repeated.ndim == 3 else "YX"} if index == 0 else None,
            )
            # An odd one is laid twice beside itself, so that it can be halved.
            odd = repeated.shape[0] % 2
            repeated = np.tile(repeated, (1 + odd, 1 + odd, *[1] * (repeated.ndim - 2)))
            repeated = halve(repeated, categorical=categorical)


def _tiles(repeated: _Pixels, level: Size) -> Iterator[bytes]:
    """Give the compressed tiles of a level that repeats a picture, row by row."""
    side = len(repeated)

    @cache
    def packed(x: int, y: int) -> bytes:
        rows, columns = ((start + np.arange(TILE_PX)) % side for start in (y, x))
        return zlib.compress(np.ascontiguousarray(repeated[np.ix_(rows, columns)]).tobytes(), 1)

    for y in range(0, level.height, TILE_PX):
        for x in range(0, level.width, TILE_PX):
            yield packed(x % side, y % side)
