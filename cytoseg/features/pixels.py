"""Which labelled pixels train the interpreters, and their features."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.classes import IGNORE
from cytoseg.devices import seed_for
from cytoseg.features.extract import FeatureExtractor, gather, to_input


@dataclass(frozen=True)
class PixelTable:
    """Features and classes of the chosen pixels of all crops.

    Attributes:
        features: (P, D) float16 on the CPU.
        classes: (P,) int64.
        crops: (P,) int64, the number of the crop that each pixel is from.
        counts: Class id to the labelled pixels of that class in all crops, chosen or not.
    """

    features: Tensor
    classes: Tensor
    crops: Tensor
    counts: dict[int, int]


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
    crops: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    *,
    pixels_per_crop: int,
    balance: str,
    seed: int,
    on_crop: Callable[[int], None] = lambda _: None,
) -> PixelTable:
    """Compute the features of chosen pixels, one crop at a time.

    Args:
        extractor: Gives the features.
        crops: Pairs of picture (H, W, 3) uint8 and label map (H, W) uint8.
        pixels_per_crop: See ``choose_pixels``.
        balance: See ``choose_pixels``.
        seed: See ``choose_pixels``; each crop draws with its own.
        on_crop: Told the number of crops done.
    """
    features, classes, crop_numbers = [], [], []
    counts: Counter[int] = Counter()
    for number, (picture, label_map) in enumerate(crops):
        pixels, ids = choose_pixels(
            label_map, pixels_per_crop, balance=balance, seed=seed_for(seed, number, what="pixels")
        )
        features.append(gather(extractor(to_input(picture[None])), pixels).cpu().half())
        classes.append(torch.from_numpy(ids))
        crop_numbers.append(torch.full((len(ids),), number))
        labelled, pixels_of = np.unique(label_map[label_map != IGNORE], return_counts=True)
        counts.update(dict(zip(labelled.tolist(), pixels_of.tolist(), strict=True)))
        on_crop(number + 1)
    return PixelTable(torch.cat(features), torch.cat(classes), torch.cat(crop_numbers), dict(counts))
