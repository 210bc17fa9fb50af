"""Single-channel pyramids, such as class maps, decoded tile by tile."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Level, Size, downsample_of
from cytoseg.slides.parser_errors import DAMAGE
from cytoseg.slides.reader import Reader
from cytoseg.slides.tiff_check import open_pages
from cytoseg.slides.tile_table import TileTable

SCALE = "nats_per_grey_level"
"""Annotation key for the nats per grey level of an 8-bit uncertainty map."""

VALUE_SCALE = "value_per_grey_level"
"""The same for an 8-bit map of something else."""

_NOTE = re.compile(rf'<M K="(?:{SCALE}|{VALUE_SCALE})">([^<]{{1,40}})</M>')


class Raster(Reader):
    """A tiled single-channel OME-TIFF from ``write_pyramid``, readable from several threads at once.

    Grey levels with a scale annotation are converted to nats, or what else they stand for.

    Args:
        path: The file.
        ids: Whether it must hold ids: unsigned integers without a scale.

    Raises:
        SlideError: If it is missing, damaged, truncated, without tiles, has several channels, or holds no ids.
    """

    def __init__(self, path: Path, *, ids: bool = False) -> None:
        self.path = Path(path)
        try:
            with open_pages(self.path) as tif:
                pages = [level.keyframe for level in tif.series[0].levels]
                if not all(page.is_tiled and page.samplesperpixel == 1 for page in pages):
                    raise SlideError(f"{self.path.name}: is not a tiled single-channel TIFF. Predict the slide again.")
                self._tiles = [TileTable(page, self.path) for page in pages]
                self._scale = _scale(tif.ome_metadata or "")
        except DAMAGE as error:
            raise SlideError(f"{self.path.name}: cannot be read ({error}). Predict the slide again.") from error
        if missing := next((table.missing for table in self._tiles if table.missing), ""):
            raise SlideError(f"{self.path.name}: truncated, {missing}. Predict the slide again.")
        sizes = [Size(int(page.imagewidth), int(page.imagelength)) for page in pages]
        self.dtype: np.dtype[Any] = pages[0].dtype if self._scale is None else np.dtype(np.float32)
        if ids and self.dtype.kind != "u":
            raise SlideError(f"{self.path.name}: holds {self.dtype} values, not ids. Predict the slide again.")
        self.levels: Sequence[Level] = tuple(Level(size, downsample_of(sizes[0], size)) for size in sizes)
        self._file = self.path.open("rb", buffering=0)

    def sample(self, rows: NDArray[np.int64], columns: NDArray[np.int64], level: int = 0) -> NDArray[Any]:
        """Read the pixels at the intersections of some rows and columns of a level.

        Args:
            rows: (H,) int64, ascending, within the level, possibly repeated.
            columns: (W,) int64, the same.
            level: Index into ``levels``.

        Returns:
            (H, W) of the file's dtype, or float32 if the file has a scale; 0 for sparse tiles.

        Raises:
            SlideError: If the file is damaged there.
        """
        tiles = self._tiles[level]
        out = np.zeros((len(rows), len(columns)), self.dtype)
        for y, top, bottom in _spans(rows, tiles.height):
            for x, left, right in _spans(columns, tiles.width):
                samples = tiles.read(self._file.fileno(), x, y)
                if samples is not None:
                    out[top:bottom, left:right] = samples[np.ix_(rows[top:bottom] - y, columns[left:right] - x)][..., 0]
        if self._scale is not None:
            out *= np.float32(self._scale)
        return out

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _scale(xml: str) -> float | None:
    """Read the scale from OME-XML, None if there is none; raises a ValueError unless it is a positive number."""
    found = _NOTE.search(xml)
    if found is None:
        return None
    scale = float(found[1])
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"{SCALE} is {scale}")
    return scale


def _spans(places: NDArray[np.int64], length: int) -> list[tuple[int, int, int]]:
    """Split ascending positions by tile: start of the tile, first and last position in it."""
    tiles, firsts = np.unique(places // length, return_index=True)
    return [
        (int(tile) * length, int(first), int(last))
        for tile, first, last in zip(tiles, firsts, [*firsts[1:], len(places)], strict=True)
    ]
