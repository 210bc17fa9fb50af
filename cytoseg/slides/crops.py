"""Random training crops of slides, as a function of (seed, i)."""

import hashlib
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache
from monai.transforms import MapTransform, Randomizable, RandScaleIntensityd, RandShiftIntensityd
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from cytoseg.errors import SlideError
from cytoseg.geometry import Region, Size
from cytoseg.seeds import seed_for
from cytoseg.slides.fast_transforms import Chain, QuickFlipd, QuickRotate90d, ToUnitd
from cytoseg.slides.open import open_slide, read_at
from cytoseg.slides.settings import CropsSection
from cytoseg.slides.slide import Slide
from cytoseg.slides.tissue_sources import SlideSource

_MAX_OPEN = 64


class _ClosingCache(LRUCache[Path, Slide]):
    """Closes the slides that it drops."""

    def popitem(self) -> tuple[Path, Slide]:
        """Drop and close the least recently used slide."""
        path, slide = super().popitem()
        slide.close()
        return path, slide


class OpenSlides:
    """Cache of recently used open slides, one per process: handles do not survive a fork or a pickle."""

    def __init__(self) -> None:
        self._open = _ClosingCache(_MAX_OPEN)
        self._process = os.getpid()

    def get(self, path: Path) -> Slide:
        """Return the open slide, opening it if necessary."""
        if self._process != os.getpid():
            self._open, self._process = _ClosingCache(_MAX_OPEN), os.getpid()
        if path not in self._open:
            self._open[path] = open_slide(path)
        return self._open[path]

    def close(self) -> None:
        """Close all slides."""
        while self._open:
            self._open.popitem()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": _ClosingCache(_MAX_OPEN)}


class RandSlideCropd(Randomizable, MapTransform):  # type: ignore[misc] # MONAI's classes are untyped
    """MONAI transform: put a random tissue crop under each key, reading only that region from an open slide.

    A slide is chosen in proportion to its tissue area, then a tissue position as the crop's centre; crops at the edge
    are shifted inside the slide.

    Args:
        keys: Keys to fill with (3, size, size) uint8.
        sources: From ``find_tissue``.
        size_px: Side of the crop.
        on_lost: Called with a message if a slide can no longer be read; its crops are then drawn from the others.
            None raises instead, so that crop i stays a function of (seed, i) whatever happens to the disk.
    """

    def __init__(
        self,
        keys: Sequence[Hashable],
        *,
        sources: Sequence[SlideSource],
        size_px: int,
        on_lost: Callable[[str], None] | None = None,
    ) -> None:
        MapTransform.__init__(self, keys)
        self._sources = sources
        self.size_px = size_px
        self._on_lost = on_lost
        self._lost: set[Path] = set()
        weights = np.array([s.weight for s in sources])
        self._cumulative = np.cumsum(weights / weights.sum())
        self._slides = OpenSlides()
        self._own_px: dict[Path, int] = {}
        self.source, self.region = sources[0], Region(0, 0, 0, 0)

    def digest(self) -> str:
        """Hash everything besides the seed that determines the crops: the slides' names, sizes and tissue."""
        slides = [(s.path.name, s.size.width, s.size.height, s.side_px, s.tissue.count) for s in self._sources]
        return hashlib.sha256(repr(slides).encode()).hexdigest()

    def randomize(self, data: Any = None) -> None:
        """Choose the slide and the region."""
        chosen = min(int(np.searchsorted(self._cumulative, self.R.random_sample())), len(self._sources) - 1)
        self.source = source = self._sources[chosen]
        row, column = source.tissue.nth(int(self.R.randint(source.tissue.count)))
        down_x, down_y = source.size.width / source.tissue.width, source.size.height / source.tissue.height
        x = (column + self.R.random_sample()) * down_x - source.side_px / 2
        y = (row + self.R.random_sample()) * down_y - source.side_px / 2
        self.region = Region(
            round(min(max(x, 0), source.size.width - source.side_px)),
            round(min(max(y, 0), source.size.height - source.side_px)),
            source.side_px,
            source.side_px,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with a (3, size, size) uint8 tensor under each key.

        Raises:
            SlideError: If a slide can no longer be read and ``on_lost`` is None, or none is left.
        """
        filled = dict(data)
        for key in self.keys:
            filled[key] = torch.from_numpy(np.ascontiguousarray(self._draw().transpose(2, 0, 1)))
        return filled

    def _draw(self) -> NDArray[np.uint8]:
        while True:
            self.randomize()
            if self.source.path in self._lost:
                continue
            try:
                slide = self._slides.get(self.source.path)
                side_px = self._own_px.get(self.source.path, self.size_px)
                return read_at(slide, self.region, Size(side_px, side_px))
            except SlideError as error:
                self._lose(self.source.path, error)

    def _lose(self, path: Path, error: SlideError) -> None:
        self._lost.add(path)
        if self._on_lost is None or len(self._lost) == len(self._sources):
            raise error
        self._on_lost(f"{error} Continuing without it: {len(self._lost)} of {len(self._sources)} slides are lost.")

    def larger(self, size_px: int) -> "RandSlideCropd":
        """Make the same transform for larger crops from the slides that are large enough.

        Args:
            size_px: Side of the new crops; the old side is kept if it is larger or if no slide is large enough.

        Returns:
            A transform with open slides of its own.
        """
        factor = max(1.0, size_px / self.size_px)
        sides = [replace(s, side_px=round(s.side_px * factor)) for s in self._sources]
        fit = [s for s in sides if s.side_px <= min(s.size.width, s.size.height)]
        wanted = max(size_px, self.size_px) if fit else self.size_px
        return RandSlideCropd(self.keys, sources=fit or self._sources, size_px=wanted, on_lost=self._on_lost)

    def of_size(self, size_px: int) -> "RandSlideCropd":
        """Make the same transform for another crop size, or for the largest that fits a slide if that is smaller.

        Args:
            size_px: Side of the new crops, at the same scale.

        Returns:
            A transform with its own open slides, from the slides that are large enough.
        """
        rooms = [min(s.size.width, s.size.height) * self.size_px / s.side_px for s in self._sources]
        wanted = min(size_px, max(self.size_px, int(max(rooms))))
        sides = [replace(s, side_px=max(1, round(s.side_px * wanted / self.size_px))) for s in self._sources]
        fit = [s for s in sides if s.side_px <= min(s.size.width, s.size.height)]
        return RandSlideCropd(self.keys, sources=fit, size_px=wanted, on_lost=self._on_lost)

    def fitted(self, size_px: int) -> "RandSlideCropd":
        """Make the same transform for crops of one size, from each smaller slide for the largest that fits.

        For crops to annotate, which may differ in size: folders of single cells hold pictures of every size.

        Args:
            size_px: Side of the new crops, at the same scale.

        Returns:
            A transform with its own open slides, from all slides.
        """
        rooms = {s.path: min(s.size.width, s.size.height) * self.size_px // s.side_px for s in self._sources}
        own = {path: min(size_px, room) for path, room in rooms.items()}
        sides = [replace(s, side_px=max(1, round(s.side_px * own[s.path] / self.size_px))) for s in self._sources]
        made = RandSlideCropd(self.keys, sources=sides, size_px=size_px, on_lost=self._on_lost)
        made._own_px = own
        return made

    @property
    def sides_px(self) -> tuple[int, int]:
        """Shortest and longest side of the crops; they differ only after ``fitted``."""
        sides = [self._own_px.get(s.path, self.size_px) for s in self._sources]
        return min(sides), max(sides)

    def close(self) -> None:
        """Close the slides opened in this process."""
        self._slides.close()


def augmentation(settings: CropsSection) -> list[Callable[..., Any]]:
    """Make MONAI's flips, quarter turns and per-channel intensity jitter, then scaling to [-1, 1].

    Args:
        settings: ``flips`` flips left-right and up-down, each with probability 0.5; ``turns`` rotates by a multiple of
            90 degrees; ``jitter`` is the largest relative change of contrast, half of it for brightness.
    """
    keys = ["image"]
    steps: list[Callable[..., Any]] = []
    if settings.flips:
        steps += [QuickFlipd(keys, prob=0.5, spatial_axis=axis) for axis in (0, 1)]
    if settings.turns:
        steps.append(QuickRotate90d(keys, prob=0.75, max_k=3))
    if settings.jitter > 0:
        steps.append(RandScaleIntensityd(keys, factors=settings.jitter, prob=0.5, channel_wise=True))
        steps.append(RandShiftIntensityd(keys, offsets=127.5 * settings.jitter, prob=0.5, channel_wise=True))
    return [*steps, ToUnitd(keys)]


class SlideCrops(Dataset[Tensor]):
    """Crops ``first`` to ``last - 1`` as a map-style data set of (3, size, size) float32 in [-1, 1].

    Args:
        transforms: ``RandSlideCropd`` followed by ``augmentation``.
        seed: The recipe's seed.
        first: Index of the first crop; on resuming, the number of crops seen.
        last: One past the last crop.
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]], *, seed: int, first: int, last: int) -> None:
        self._chain = Chain(transforms)
        self._seed, self._first, self._last = seed, first, last

    def __len__(self) -> int:
        return self._last - self._first

    def __getitem__(self, index: int) -> Tensor:
        number = self._first + index
        crop: Tensor = self._chain({"image": number}, seed=seed_for(self._seed, number, what="crop"))["image"]
        return crop
