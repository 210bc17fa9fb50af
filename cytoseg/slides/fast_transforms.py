"""Fast equivalents of MONAI's flips, rotations and intensity transforms.

Same pixels and random numbers at a fifth of the cost: MONAI records how to invert each transform, which takes longer
than the transform itself, and training never inverts one.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from monai.data import get_track_meta, set_track_meta
from monai.transforms import Compose, MapTransform, RandFlipd, Randomizable, RandRotate90d

_SEEDS = 2**32
"""Seed range used by MONAI."""


class QuickFlipd(RandFlipd):  # type: ignore[misc] # MONAI's classes are untyped
    """MONAI's ``RandFlipd`` for tensors (C, H, W), without the inversion record."""

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Randomly flip the tensors under the keys."""
        filled = dict(data)
        self.randomize(None)
        if self._do_transform:
            for key in self.key_iterator(filled):
                filled[key] = torch.flip(filled[key], (1 + self.flipper.spatial_axis,))
        return filled


class QuickRotate90d(RandRotate90d):  # type: ignore[misc] # same
    """MONAI's ``RandRotate90d`` for tensors (C, H, W), without the inversion record."""

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Randomly rotate the tensors under the keys."""
        filled = dict(data)
        self.randomize()
        if self._do_transform:
            for key in self.key_iterator(filled):
                filled[key] = torch.rot90(filled[key], self._rand_k, (1, 2))
        return filled


class ToUnitd(MapTransform):  # type: ignore[misc] # same
    """Scale tensors (C, H, W) of values 0 to 255 to float32 in [-1, 1], as MONAI's ``ScaleIntensityRanged`` would."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale the tensors under the keys and make them contiguous."""
        filled = dict(data)
        for key in self.key_iterator(filled):
            unit = (filled[key].contiguous() / 255).to(torch.float32)
            filled[key] = unit.mul_(2).sub_(1).clamp_(-1, 1)
        return filled


class Chain:
    """Applies dictionary transforms in order, with results identical to MONAI's ``Compose`` from the same seed.

    ``Compose`` creates random states for every item, 0.1 ms per transform, and keeps inversion records that cost more
    than the transforms. Here the states are reseeded and nothing is recorded.

    Args:
        transforms: Dictionary transforms; none of them lazy.
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]]) -> None:
        self._transforms = tuple(transforms)
        self._first = np.random.RandomState(0)
        self._random = [_random_parts(t) for t in self._transforms if isinstance(t, Randomizable)]

    def __call__(self, item: Mapping[Hashable, Any], *, seed: int) -> Mapping[Hashable, Any]:
        """Apply all transforms with random numbers derived from a 32-bit seed."""
        self._first.seed(seed)
        for parts in self._random:
            own = int(self._first.randint(_SEEDS, dtype=np.uint32))
            for part in parts:
                part.R.seed(own)
        with _plain_tensors():
            for transform in self._transforms:
                item = transform(item)
        return item


class PlainCompose(Compose):  # type: ignore[misc] # MONAI's classes are untyped
    """MONAI's ``Compose`` with plain tensors as its output.

    A ``MetaTensor`` takes twice as long to transform, and slows each operation of a small network that is given one.
    """

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Apply all transforms as ``Compose`` does."""
        with _plain_tensors():
            return super().__call__(*arguments, **keywords)


@contextmanager
def _plain_tensors() -> Iterator[None]:
    tracked = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(tracked)


def _random_parts(transform: Any) -> list[Any]:
    """List a transform and the one it wraps, which MONAI seeds alike; each gets its own random state."""
    parts = [transform, *(part for part in vars(transform).values() if isinstance(part, Randomizable))]
    if any("R" not in vars(part) for part in parts):  # otherwise it is the state shared by all transforms
        transform.set_random_state(seed=0)
    return parts
