"""Which labelled pixels train the interpreters, and their features."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.classes import IGNORE
from cytoseg.devices import seed_for
from cytoseg.features.extract import FeatureExtractor, NativeFeatures, gather, to_input
from cytoseg.features.rows import HALF_OF_WHAT_IS_FREE, DiskRows, Room, make_rows

GATHERED_PX = 1024
"""Pixels of a crop that are gathered at once: in fp32 and twice they take 83 MB of 10,176 channels."""


class Crops(Protocol):
    """Labelled crops by number, read when they are asked for; a list of pairs is one, too."""

    def __len__(self) -> int:
        """Tell how many there are."""
        ...

    def __getitem__(self, number: int, /) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return picture (H, W, 3) uint8 and label map (H, W) uint8."""
        ...


@dataclass(frozen=True)
class PixelDraw:
    """Which labelled pixels are chosen.

    Attributes:
        per_crop: Pixels of each crop; all, if it has fewer.
        balance: ``classes`` or ``none``, see ``choose_pixels``.
        seed: Each crop draws with its own, derived from this one.
    """

    per_crop: int
    balance: str
    seed: int


@dataclass(frozen=True)
class PixelTable:
    """Features and classes of the chosen pixels of all crops.

    Attributes:
        features: (P, D) float16, in memory of the CPU or on disk; the same bytes.
        classes: (P,) int64.
        crops: (P,) int64, the number of the crop that each pixel is from.
        counts: Class id to the labelled pixels of that class in all crops, chosen or not.
        stands_for: (P,) float32, for how many labelled pixels of its crop and class each was chosen; None where nobody
            counted by crop.
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

    With ``classes`` each class present gets an equal share; a class with fewer pixels gives all it has and the others
    share the rest, so every nucleus pixel is taken before more glass.

    Args:
        label_map: (H, W) uint8 class ids, 255 = ignore.
        count: Pixels to choose; all, if the crop has fewer.
        balance: ``classes`` or ``none``.
        seed: Of the draw.

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
    room: Room = HALF_OF_WHAT_IS_FREE,
    on_crop: Callable[[int], None] = lambda _: None,
) -> PixelTable:
    """Compute the features of chosen pixels, one crop at a time.

    The largest crop comes first: what its features take tells whether the memory suffices, before long work.

    Args:
        extractor: Gives the features.
        crops: The labelled crops.
        draw: Which pixels are chosen; each crop draws with its own seed.
        room: The memory there is.
        on_crop: Told the number of crops done.

    Raises:
        RecipeError: If memory or disk do not suffice; see ``make_rows``.
    """
    chosen = [_choose(crops[number][1], draw, number) for number in range(len(crops))]
    firsts = np.cumsum([0, *(len(c.ids) for c in chosen)]).tolist()
    columns, most = sum(extractor.channels), max((c.area for c in chosen), default=0)
    rows: Tensor | DiskRows = torch.empty(0, columns, dtype=torch.float16)
    # Sorting is stable: after the largest the others come in their order.
    for done, number in enumerate(sorted(range(len(crops)), key=lambda i: chosen[i].area < most), start=1):
        picture, pixels = crops[number][0], chosen[number].pixels
        features = extractor(to_input(picture[None]))
        if done == 1:
            gather(features, pixels[:GATHERED_PX])  # its memory counts, too
            largest = f"{picture.shape[1]} x {picture.shape[0]} px"
            rows = make_rows(firsts[-1], columns, room, largest=largest, passing=_host_bytes(features))
        _fill(rows, firsts[number], features, pixels)
        del features  # before the next ones are computed
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
    """What one crop gives: (P, 2) pixels, (P,) ids, labelled pixels of each class, and the crop's area in pixels."""

    pixels: NDArray[np.int64]
    ids: NDArray[np.int64]
    counts: Counter[int]
    area: int

    def stands_for(self) -> NDArray[np.float32]:
        """Tell for each pixel how many of its class it was chosen from, divided by how many were."""
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
    """Count the memory that goes when the features do."""
    return sum(m.nbytes for m in features.maps if m.device.type == "cpu")
