"""Random parts of labelled sources for training the backbone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.classes import IGNORE
from cytoseg.diffusion.mask_loss import OTHER, MaskParts
from cytoseg.features.extract import to_input
from cytoseg.interpreter.part_draw import random_transform
from cytoseg.interpreter.random_stain import paint_random_stain
from cytoseg.labels.settings import SourceSection
from cytoseg.seeds import seed_for

BLURRED = 0.25


@dataclass(frozen=True)
class LabelledSource:
    """Labelled images of another data set, in the recipe's class list.

    Attributes:
        pictures: Each (H, W, 3) uint8 RGB.
        label_maps: One per image, (H, W) uint8: ids of the recipe, ``OTHER`` or 255 for ignore.
        known: (K,) bool: the classes annotated in this source.
        scale: Resize factor of its images.
        settings: How its parts are drawn.
    """

    pictures: Sequence[NDArray[np.uint8]]
    label_maps: Sequence[NDArray[np.uint8]]
    known: tuple[bool, ...]
    scale: float
    settings: SourceSection


class SourceParts:
    """Draws a part of a labelled source per crop number, as a function of the seed and the number alone.

    Args:
        sources: At least one.
        size_px: Side of a part.
        seed: Random seed.
    """

    def __init__(self, sources: Sequence[LabelledSource], *, size_px: int, seed: int) -> None:
        self._sources, self._size_px, self._seed = sources, size_px, seed
        shares = np.array([source.settings.share for source in sources])
        self._shares = shares / shares.sum()
        self._weights = [source_weights(source) for source in sources]
        self._change = random_transform(size_px, BLURRED)

    def __call__(self, numbers: Tensor) -> MaskParts:
        """Draw the parts of (N,) int64 crop numbers."""
        drawn = [self._part(number) for number in numbers.tolist()]
        pictures, targets, which = zip(*drawn, strict=True)
        return MaskParts(
            torch.stack(pictures),
            torch.stack(targets),
            torch.tensor([self._sources[i].known for i in which]),
            torch.stack([self._weights[i] for i in which]),
        )

    def _part(self, number: int) -> tuple[Tensor, Tensor, int]:
        rng = np.random.default_rng(seed_for(self._seed, number, what="source part"))
        which = int(rng.choice(len(self._sources), p=self._shares))
        source = self._sources[which]
        picture, labels = _resized_part(source, self._size_px, rng)
        if source.settings.stain == "random":
            picture = paint_random_stain(picture, rng)
        self._change.set_random_state(seed_for(self._seed, number, what="source changes"))
        changed = self._change({"picture": picture, "labels": labels[None]})
        return changed["picture"].float(), changed["labels"][0].long(), which


def _resized_part(source: LabelledSource, size_px: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Cut a square at random and resize it: (3, size, size) float32 in [-1, 1] and (size, size) int64.

    An image that is too small is used whole; the rest is padded later with ignored pixels.
    """
    number = int(rng.integers(len(source.pictures)))
    picture, label_map = source.pictures[number], source.label_maps[number]
    scale = source.scale * math.exp(rng.uniform(-1.0, 1.0) * math.log(source.settings.spread))
    height, width = (min(round(size_px / scale), side) for side in label_map.shape)
    y, x = int(rng.integers(label_map.shape[0] - height + 1)), int(rng.integers(label_map.shape[1] - width + 1))
    size = (min(size_px, max(1, round(height * scale))), min(size_px, max(1, round(width * scale))))
    cut = to_input(picture[None, y : y + height, x : x + width])
    labels = torch.from_numpy(label_map[y : y + height, x : x + width].astype(np.float32))[None, None]
    resized = F.interpolate(cut, size, mode="bilinear", antialias=True, align_corners=False)
    return resized[0], F.interpolate(labels, size, mode="nearest-exact")[0, 0].long()


def source_weights(source: LabelledSource) -> Tensor:
    """Weight the classes of a source by one over the square root of their fraction, as for labelled crops.

    Returns:
        (K + 1,) float32, the last for ``OTHER``; the largest is 1; 0 for a class without a pixel.
    """
    counts = np.sum([np.bincount(m.ravel(), minlength=256) for m in source.label_maps], axis=0)
    counts = np.concatenate([counts[: len(source.known)], counts[OTHER : OTHER + 1]])
    shares = counts / max(1, counts.sum())
    weights = np.where(shares > 0, 1 / np.sqrt(np.maximum(shares, 1e-9)), 0.0)
    return torch.tensor(weights / max(weights.max(), 1e-12), dtype=torch.float32)


def translate(label_map: NDArray[np.uint8], meaning: Sequence[int]) -> NDArray[np.uint8]:
    """Map a source's ids to the recipe's ids.

    Args:
        label_map: (H, W) uint8 ids of the source, 255 for ignore.
        meaning: An id of the recipe, ``OTHER`` or 255 for each id of the source.

    Returns:
        (H, W) uint8.
    """
    table = np.full(256, IGNORE, np.uint8)
    table[: len(meaning)] = meaning
    return table[label_map]
