"""MONAI's flips, quarter turns and scaling for crops: the same pixels and random numbers at a fifth of the cost.

MONAI records with every flip and turn how to undo it, which takes longer than to do it. Crops are never turned back.
"""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform, RandFlipd, RandRotate90d


class QuickFlipd(RandFlipd):  # type: ignore[misc] # MONAI's classes are untyped
    """MONAI's ``RandFlipd`` for tensors (C, H, W), without the record."""

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Mirror the tensors under the keys, or leave them."""
        filled = dict(data)
        self.randomize(None)
        if self._do_transform:
            for key in self.key_iterator(filled):
                filled[key] = torch.flip(filled[key], (1 + self.flipper.spatial_axis,))
        return filled


class QuickRotate90d(RandRotate90d):  # type: ignore[misc] # same
    """MONAI's ``RandRotate90d`` for tensors (C, H, W), without the record."""

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Turn the tensors under the keys, or leave them."""
        filled = dict(data)
        self.randomize()
        if self._do_transform:
            for key in self.key_iterator(filled):
                filled[key] = torch.rot90(filled[key], self._rand_k, (1, 2))
        return filled


class ToUnitd(MapTransform):  # type: ignore[misc] # same
    """Scale tensors (C, H, W) of values 0 to 255 to float32 in [-1, 1], as MONAI's ``ScaleIntensityRanged`` would."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale the tensors under the keys, and lay them out one channel after another."""
        filled = dict(data)
        for key in self.key_iterator(filled):
            unit = (filled[key].contiguous() / 255).to(torch.float32)
            filled[key] = unit.mul_(2).sub_(1).clamp_(-1, 1)
        return filled
