"""What can be laid over a slide in a browser: class map, uncertainty map, and the crops that people marked."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE
from cytoseg.geometry import Region, Size, best_level
from cytoseg.labels.index import LabelIndex, LabelledCrop
from cytoseg.labels.original_annotation import read_original
from cytoseg.maps.raster import Raster

FAINTEST_NATS = 0.01
"""Below this the interpreters agree, and stretching would show noise."""

_CACHE_BYTES = 32_000_000
_LOOKED_AT_PX = 512  # longer side of the level that the brightest uncertainty is taken from


class Layer(Protocol):
    """One value for each pixel of a slide."""

    def values(self, region: Region, size: Size) -> NDArray[np.uint8]:
        """Return the values at the centres of a tile's pixels.

        Args:
            region: Of the slide, in level-0 pixels.
            size: Of the tile in pixels.

        Returns:
            (H, W) uint8.

        Raises:
            CytosegError: If a file is missing or damaged.
        """


@dataclass(frozen=True)
class ClassLayer:
    """A class map: each value is an id.

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
    """An uncertainty map: 0 is certain, 255 as uncertain as ``brightest`` or more.

    Attributes:
        raster: The open uncertainty map.
        downsample: How many level-0 pixels of the slide one pixel of it spans.
        brightest: In nats.
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
    """The label maps of a slide's crops at their places, ignore elsewhere; of two that overlap the later one counts.

    Attributes:
        places: The crops, with their regions of the slide.
    """

    places: Sequence[tuple[LabelledCrop, Region]]
    _held: OrderedDict[str, NDArray[np.uint8]] = field(default_factory=OrderedDict, compare=False)
    _turn: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def values(self, region: Region, size: Size) -> NDArray[np.uint8]:
        """Return the ids; see `Layer.values`. Threads take turns: label maps are held for the next one."""
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
        ids = self._held.pop(crop.crop, None)
        ids = crop.label_map() if ids is None else ids
        self._held[crop.crop] = ids
        while len(self._held) > 1 and sum(held.nbytes for held in self._held.values()) > _CACHE_BYTES:
            self._held.popitem(last=False)
        return ids


def brightest_nats(raster: Raster) -> float:
    """Find where the ramp of an uncertainty map ends: at the 99.5 % quantile of a coarse level, in nats."""
    level = max(i for i, found in enumerate(raster.levels) if i == 0 or _long_enough(found.size))
    size = raster.levels[level].size
    nats = raster.sample(np.arange(size.height), np.arange(size.width), level)
    return max(FAINTEST_NATS, float(np.percentile(nats, 99.5)))


def placed_crops(index: LabelIndex, slide: str, size: Size) -> list[tuple[LabelledCrop, Region]]:
    """Find the crops of a slide whose place on it is known: something says it, or the crop is the whole picture.

    Args:
        index: The imported labels.
        slide: Id of the slide.
        size: Of its level 0.

    Raises:
        LabelError: If what was kept of a crop is damaged.
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
    """Read a map at the centres of a tile's pixels, from the coarsest level that is fine enough."""
    level = best_level(raster.levels, region.width / size.width / downsample)
    found = raster.levels[level]
    spans = downsample * found.downsample
    # The map leaves out a last fraction of its own pixel, where it goes on as it ended.
    rows = (_centres(region.y, region.height, size.height) / spans).astype(np.int64).clip(0, found.size.height - 1)
    columns = (_centres(region.x, region.width, size.width) / spans).astype(np.int64).clip(0, found.size.width - 1)
    return raster.sample(rows, columns, level)


def _centres(start: int, length: int, count: int) -> NDArray[np.float64]:
    """Return the centres of so many pixels along a length that begins somewhere, in level-0 pixels."""
    return np.asarray(start + (np.arange(count) + 0.5) * length / count)


def _long_enough(size: Size) -> bool:
    return max(size.width, size.height) >= _LOOKED_AT_PX
