"""Augmented random parts of labelled crops for training networks."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from monai.transforms import (
    RandAdjustContrastd,
    RandFlipd,
    RandGaussianSmoothd,
    RandRotate90d,
    RandScaleIntensityFixedMeand,
    RandSpatialCropd,
    RandStdShiftIntensityd,
    SpatialPadd,
)
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.classes import IGNORE
from cytoseg.errors import LabelError
from cytoseg.features.extract import to_input
from cytoseg.seeds import seed_for
from cytoseg.slides.fast_transforms import PlainCompose

LEAST_PX = 32
"""Smallest part of a crop; a crop smaller than this is padded."""
PADDED_SHARE = 0.1
"""Share of the crops that may be smaller than a part. With three of 30 synthetic crops padded, nuclei of a student had
an IoU of .34, with parts as small as these three .26."""
_BOTH = ("picture", "labels")
_MULTIPLE_PX = 8
"""The networks downsample up to three times."""


class PartDraw:
    """Draws batches of augmented parts as a function of the seed and the step alone.

    Args:
        pictures: Crops, each (H, W, 3) uint8 RGB.
        label_maps: One per crop, (H, W) uint8 ids, 255 for ignore.
        size_px: Side of a part; smaller crops are padded with ignored pixels.
        batch: B, parts per step.
        blurred: Fraction of blurred parts, 0 to 1.
        seed: Random seed.
    """

    def __init__(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        label_maps: Sequence[NDArray[np.uint8]],
        *,
        size_px: int,
        batch: int,
        blurred: float,
        seed: int,
    ) -> None:
        self._pictures, self._label_maps = pictures, label_maps
        self._batch, self._seed, self._change = batch, seed, random_transform(size_px, blurred)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return a step's (B, 3, size, size) float32, about [-1, 1], and (B, size, size) int64."""
        self._change.set_random_state(seed_for(self._seed, step, what="changes"))
        parts = [self._change(self._crop(number)) for number in self._numbers(step)]
        x = torch.stack([part["picture"] for part in parts])
        return x.float(), torch.stack([part["labels"][0] for part in parts]).long()

    def _crop(self, number: int) -> dict[str, Tensor]:
        """Return a crop as input of the transform, converted each time because it is five times as large."""
        labels = torch.from_numpy(self._label_maps[number].astype(np.int64))
        return {"picture": to_input(self._pictures[number][None])[0], "labels": labels[None]}

    def _numbers(self, step: int) -> list[int]:
        rng = np.random.default_rng(seed_for(self._seed, step, what="parts"))
        drawn: list[int] = rng.integers(0, len(self._pictures), self._batch).tolist()
        return drawn


def part_px(wanted_px: int, sizes: Iterable[tuple[int, ...]]) -> int:
    """Return the side of the parts: what is wanted, or what nine in ten crops hold, but at least 32 px.

    A part larger than its crop is padded, and a network that normalises over an image or a batch then learns from
    statistics that no tile has: trained so, it fails on the crops themselves. A few such crops do little harm.

    Args:
        wanted_px: Side of a part in large crops.
        sizes: Height and width of each crop.
    """
    sides = sorted(min(size) for size in sizes) or [wanted_px]
    held_px = sides[int(PADDED_SHARE * len(sides))]
    return min(wanted_px, max(LEAST_PX, held_px - held_px % _MULTIPLE_PX))


def random_transform(size_px: int, blurred: float) -> PlainCompose:
    """Return the random transform of a part: position, flips, rotations, colours, sharpness.

    Args:
        size_px: Side of a part; smaller images are padded with ignored pixels.
        blurred: Fraction of blurred parts, 0 to 1.

    Returns:
        A transform of ``picture`` (3, H, W) float and ``labels`` (1, H, W) int64.
    """
    side = (size_px, size_px)
    return PlainCompose(
        [
            SpatialPadd("picture", side, mode="replicate"),
            SpatialPadd("labels", side, mode="constant", value=IGNORE),
            RandSpatialCropd(_BOTH, side, random_size=False),
            RandFlipd(_BOTH, prob=0.5, spatial_axis=0),
            RandRotate90d(_BOTH, prob=0.75, max_k=3),
            RandAdjustContrastd("picture", prob=0.5, gamma=(0.7, 1.4)),
            RandScaleIntensityFixedMeand("picture", prob=0.5, factors=0.2),
            RandStdShiftIntensityd("picture", prob=0.5, factors=0.3, channel_wise=True),
            RandGaussianSmoothd("picture", prob=blurred, sigma_x=(0.3, 1.0), sigma_y=(0.3, 1.0)),
        ]
    )


def class_weights(label_maps: Sequence[NDArray[np.uint8]], classes: int) -> Tensor:
    """Weight classes by one over the square root of their fraction of the labelled pixels.

    So neither rare nuclei nor glass dominates the loss.

    Args:
        label_maps: (H, W) uint8 ids each, 255 for ignore.
        classes: K.

    Returns:
        (K,) float32, the largest is 1; 0 for a class without a pixel.

    Raises:
        LabelError: If no pixel is labelled.
    """
    counts = np.sum([np.bincount(m.ravel(), minlength=256)[:classes] for m in label_maps], axis=0)
    if not counts.sum():
        raise LabelError(
            f"no pixel of the {len(label_maps)} training crops is labelled. Annotate some and import them again."
        )
    shares = counts / counts.sum()
    weights = np.where(shares > 0, 1 / np.sqrt(np.maximum(shares, 1e-9)), 0.0)
    return torch.tensor(weights / weights.max(), dtype=torch.float32)
