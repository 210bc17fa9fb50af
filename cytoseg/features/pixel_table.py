"""Choosing labelled pixels, and the table of their features."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.classes import IGNORE
from cytoseg.features.extract import FeatureExtractor, NativeFeatures, gather, to_input
from cytoseg.features.pixel_rows import HALF_OF_WHAT_IS_FREE, DiskRows, MemoryLimits, make_rows
from cytoseg.seeds import seed_for

GATHERED_PX = 1024
"""Pixels of a crop gathered at once: two fp32 copies with 10,176 channels take 83 MB."""


class Crops(Protocol):
    """Labelled crops by index, loaded lazily; a list of pairs qualifies."""

    def __len__(self) -> int:
        """Return the number of crops."""
        ...

    def __getitem__(self, number: int, /) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return image (H, W, 3) uint8 and label map (H, W) uint8."""
        ...


@dataclass(frozen=True)
class PixelDraw:
    """How labelled pixels are chosen.

    Attributes:
        per_crop: Pixels per crop; all if it has fewer.
        balance: ``classes`` or ``none``, see ``choose_pixels``.
        seed: Base of the per-crop seeds.
    """

    per_crop: int
    balance: str
    seed: int


@dataclass(frozen=True)
class PixelTable:
    """Features and classes of the chosen pixels of all crops.

    Attributes:
        features: (P, D) float16, in CPU memory or on disk.
        classes: (P,) int64.
        crops: (P,) int64, crop index of each pixel.
        counts: Class id to the number of labelled pixels in all crops, chosen or not.
        stands_for: (P,) float32, how many labelled pixels of its crop and class each represents; None if not counted by
            crop.
    """

    features: Tensor | DiskRows
    classes: Tensor
    crops: Tensor
    counts: dict[int, int]
    stands_for: Tensor | None = None


def choose_pixels(
    label_map: NDArray[np.uint8], count: int, *, balance: str, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose labelled pixels of one crop; ignored pixels are never chosen.

    With ``classes`` each class present gets an equal share; all pixels of a rarer class are taken and the others
    share the rest, so every nucleus pixel is taken before more glass.

    Args:
        label_map: (H, W) uint8 class ids, 255 = ignore.
        count: Pixels to choose; all if the crop has fewer.
        balance: ``classes`` or ``none``.
        seed: Random seed.

    Returns:
        (P, 2) int64 of (x, y), and (P,) int64 class ids.
    """
    rng = np.random.default_rng(seed)
    flat = label_map.ravel()
    if balance == "none":
        places = [np.flatnonzero(flat != IGNORE)]
    else:
        places = [np.flatnonzero(flat == i) for i in np.unique(flat) if i != IGNORE]
    chosen, left = [], count
    for i, place in enumerate(sorted(places, key=len)):
        take = min(len(place), left // (len(places) - i))
        chosen.append(np.sort(rng.choice(place, take, replace=False)))
        left -= take
    index = np.concatenate(chosen) if chosen else np.empty(0, np.int64)
    y, x = np.divmod(index, label_map.shape[1])
    return np.stack([x, y], axis=1).astype(np.int64), flat[index].astype(np.int64)


def gather_pixels(
    extractor: FeatureExtractor,
    crops: Crops,
    draw: PixelDraw,
    *,
    room: MemoryLimits = HALF_OF_WHAT_IS_FREE,
    on_crop: Callable[[int], None] = lambda _: None,
) -> PixelTable:
    """Compute the features of chosen pixels, one crop at a time.

    The largest crop comes first, so that insufficient memory is detected early.

    Args:
        extractor: The feature extractor.
        crops: The labelled crops.
        draw: How pixels are chosen; each crop has its own seed.
        room: The available memory.
        on_crop: Called with the number of crops done.

    Raises:
        RecipeError: If memory or disk space is insufficient; see ``make_rows``.
    """
    chosen = [_choose(crops[number][1], draw, number) for number in range(len(crops))]
    firsts = np.cumsum([0, *(len(c.ids) for c in chosen)]).tolist()
    columns, most = sum(extractor.channels), max((c.area for c in chosen), default=0)
    rows: Tensor | DiskRows = torch.empty(0, columns, dtype=torch.float16)
    # The sort is stable: the others follow in their order.
    for done, number in enumerate(sorted(range(len(crops)), key=lambda i: chosen[i].area < most), start=1):
        picture, pixels = crops[number][0], chosen[number].pixels
        features = extractor(to_input(picture[None]))
        if done == 1:
            gather(features, pixels[:GATHERED_PX])  # counts towards memory
            largest = f"{picture.shape[1]} x {picture.shape[0]} px"
            rows = make_rows(firsts[-1], columns, room, largest=largest, passing=_host_bytes(features))
        _fill(rows, firsts[number], features, pixels)
        del features  # free before the next features are computed
        on_crop(done)
    ids = np.concatenate([np.empty(0, np.int64), *(c.ids for c in chosen)])
    crop_numbers = np.repeat(np.arange(len(crops)), np.diff(firsts))
    counts = sum((c.counts for c in chosen), Counter[int]())
    stands_for = np.concatenate([np.empty(0, np.float32), *(c.stands_for() for c in chosen)])
    return PixelTable(
        rows, torch.from_numpy(ids), torch.from_numpy(crop_numbers), dict(counts), torch.from_numpy(stands_for)
    )


@dataclass(frozen=True)
class _SampledPixels:
    """Chosen pixels of one crop: (P, 2) pixels, (P,) ids, labelled pixels per class, and the crop's area in pixels."""

    pixels: NDArray[np.int64]
    ids: NDArray[np.int64]
    counts: Counter[int]
    area: int

    def stands_for(self) -> NDArray[np.float32]:
        """Return (P,) float32: the number of labelled pixels of each pixel's class, divided by the number chosen."""
        classes, of_pixel, chosen = np.unique(self.ids, return_inverse=True, return_counts=True)
        labelled = np.array([self.counts[int(class_id)] for class_id in classes])
        return (labelled / chosen)[of_pixel].astype(np.float32)


def _choose(label_map: NDArray[np.uint8], draw: PixelDraw, number: int) -> _SampledPixels:
    seed = seed_for(draw.seed, number, what="pixels")
    pixels, ids = choose_pixels(label_map, draw.per_crop, balance=draw.balance, seed=seed)
    labelled, pixels_of = np.unique(label_map[label_map != IGNORE], return_counts=True)
    counts = Counter(dict(zip(labelled.tolist(), pixels_of.tolist(), strict=True)))
    return _SampledPixels(pixels, ids, counts, label_map.size)


def _fill(rows: Tensor | DiskRows, first: int, features: NativeFeatures, pixels: NDArray[np.int64]) -> None:
    """Write the rows of one crop's pixels from row ``first`` on."""
    for start in range(0, len(pixels), GATHERED_PX):
        values = gather(features, pixels[start : start + GATHERED_PX]).cpu().half()
        rows[first + start : first + start + len(values)] = values


def _host_bytes(features: NativeFeatures) -> int:
    """Return the memory freed with the features."""
    return sum(m.nbytes for m in features.maps if m.device.type == "cpu")
