"""Viewer layers: class map, uncertainty map and annotated crops."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from cytoseg.caches import memory_cache
from cytoseg.classes import IGNORE
from cytoseg.geometry import Region, Size, best_level
from cytoseg.labels.index import LabelIndex, LabelledCrop
from cytoseg.labels.original_annotation import read_original
from cytoseg.maps.raster import Raster

FAINTEST_NATS = 0.01
"""Below this the interpreters agree, and contrast stretching would amplify noise."""

_CACHE_BYTES = 32_000_000
_LOOKED_AT_PX = 512  # longer side of the level used for the colour range of uncertainty


class Layer(Protocol):
    """One value per pixel of a slide."""

    def values(self, region: Region, size: Size) -> NDArray[np.uint8]:
        """Return the values at the centres of a tile's pixels.

        Args:
            region: Region in level-0 pixels.
            size: Size of the tile in pixels.

        Returns:
            (H, W) uint8.

        Raises:
            CytosegError: If a file is missing or damaged.
        """


@dataclass(frozen=True)
class ClassLayer:
    """A class map; values are ids.

    Attributes:
        raster: The open class map.
        downsample: How many level-0 pixels of the slide one pixel of it spans.
    """

    raster: Raster
    downsample: float

    def values(self, region: Region, size: Size) -> NDArray[np.uint8]:
        """Return the ids; see `Layer.values`."""
        return np.asarray(_sampled(self.raster, self.downsample, region, size), np.uint8)


@dataclass(frozen=True)
class UncertaintyLayer:
    """An uncertainty map: 0 is certain, 255 is ``brightest`` or more.

    Attributes:
        raster: The open uncertainty map.
        downsample: How many level-0 pixels of the slide one pixel of it spans.
        brightest: Uncertainty shown as 255, in nats.
    """

    raster: Raster
    downsample: float
    brightest: float

    def values(self, region: Region, size: Size) -> NDArray[np.uint8]:
        """Return the uncertainty; see `Layer.values`."""
        nats = _sampled(self.raster, self.downsample, region, size)
        return np.rint(np.clip(nats / self.brightest, 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class TruthLayer:
    """The label maps of a slide's crops in place, ignore elsewhere; where crops overlap the later one is shown.

    Attributes:
        places: The crops with their regions on the slide.
    """

    places: Sequence[tuple[LabelledCrop, Region]]
    _held: LRUCache[str, NDArray[np.uint8]] = field(
        default_factory=lambda: memory_cache(_CACHE_BYTES, lambda ids: int(ids.nbytes)), compare=False
    )
    _turn: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def values(self, region: Region, size: Size) -> NDArray[np.uint8]:
        """Return the ids; see `Layer.values`. One thread at a time: label maps are cached."""
        out = np.full((size.height, size.width), IGNORE, np.uint8)
        rows, columns = _centres(region.y, region.height, size.height), _centres(region.x, region.width, size.width)
        for crop, place in self.places:
            inside_y = (rows >= place.y) & (rows < place.y + place.height)
            inside_x = (columns >= place.x) & (columns < place.x + place.width)
            if not inside_y.any() or not inside_x.any():
                continue
            with self._turn:
                ids = self._label_map(crop)
            y = ((rows[inside_y] - place.y) * ids.shape[0] / place.height).astype(np.int64)
            x = ((columns[inside_x] - place.x) * ids.shape[1] / place.width).astype(np.int64)
            found, where = ids[np.ix_(y, x)], np.ix_(inside_y, inside_x)
            out[where] = np.where(found == IGNORE, out[where], found)
        return out

    def _label_map(self, crop: LabelledCrop) -> NDArray[np.uint8]:
        if crop.crop not in self._held:
            self._held[crop.crop] = crop.label_map()
        return self._held[crop.crop]


def brightest_nats(raster: Raster) -> float:
    """Compute the upper end of an uncertainty map's colour range: the 99.5 % quantile of a coarse level, in nats."""
    level = max(i for i, found in enumerate(raster.levels) if i == 0 or _long_enough(found.size))
    size = raster.levels[level].size
    nats = raster.sample(np.arange(size.height), np.arange(size.width), level)
    return max(FAINTEST_NATS, float(np.percentile(nats, 99.5)))


def placed_crops(index: LabelIndex, slide: str, size: Size) -> list[tuple[LabelledCrop, Region]]:
    """Find the crops of a slide with a known position, from their origin or because the crop is the whole image.

    Args:
        index: The imported labels.
        slide: Id of the slide.
        size: Size of its level 0.

    Raises:
        LabelError: If the stored annotation of a crop is damaged.
    """
    found = []
    for crop in (crop for crop in index.crops if crop.slide == slide):
        origin = read_original(index.folder, crop.crop).origin
        if origin is not None and origin.region is not None:
            found.append((crop, origin.region))
        elif crop.crop == slide and Size(crop.width, crop.height) == size:
            found.append((crop, Region(0, 0, size.width, size.height)))
    return found


def _sampled(raster: Raster, downsample: float, region: Region, size: Size) -> NDArray[Any]:
    """Sample a map at the centres of a tile's pixels, from the coarsest level that is fine enough."""
    level = best_level(raster.levels, region.width / size.width / downsample)
    found = raster.levels[level]
    spans = downsample * found.downsample
    # The map drops a fractional last pixel; its last pixel is repeated there.
    rows = (_centres(region.y, region.height, size.height) / spans).astype(np.int64).clip(0, found.size.height - 1)
    columns = (_centres(region.x, region.width, size.width) / spans).astype(np.int64).clip(0, found.size.width - 1)
    return raster.sample(rows, columns, level)


def _centres(start: int, length: int, count: int) -> NDArray[np.float64]:
    """Return the centres of ``count`` pixels along an interval, in level-0 pixels."""
    return np.asarray(start + (np.arange(count) + 0.5) * length / count)


def _long_enough(size: Size) -> bool:
    return max(size.width, size.height) >= _LOOKED_AT_PX
