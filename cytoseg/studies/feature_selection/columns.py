"""Cache of pixel features by tap and timestep."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cytoseg.diffusion.architecture import STAGE_CHANNELS
from cytoseg.evaluation.evaluate import ScoredCrop
from cytoseg.features.extract import FeatureExtractor, check_finite, gather, to_input
from cytoseg.features.settings import ExtractorName, FeatureSettings, Scale
from cytoseg.studies.feature_selection.pixels import ChosenPixels, FeatureSet, Flip, flipped

ExtractorOf = Callable[[FeatureSettings], FeatureExtractor]
_JOINED = {"filters": ("filters",), "pretrained": tuple(f"stage{i}" for i in range(len(STAGE_CHANNELS)))}
"""Columns of the extractors besides ddpm, in the order of concatenation."""


class Pass(NamedTuple):
    """One pass of an extractor over a crop, which gives several columns; scale, noise and timestep apply to ddpm."""

    extractor: ExtractorName
    flip: Flip
    scale: Scale = 1
    noise: int = 0
    timestep: int = 0


Column = tuple[Pass, str]


class ColumnStore:
    """Computes features of the chosen pixels on demand, and caches them within a memory limit.

    Args:
        crops: The crops.
        pixels: Their pixels.
        base: All taps at the default scale. Passes of this kind are computed for all its taps at once, because other
            sets need them too; other passes only for the requested taps.
        extractor_of: Makes the extractor of some settings.
        noise_seed: Seed of the first noise tensor; further ones count up.
        memory_bytes: Limit for the features and the training table.
        on_crop: Called with the number of crops done and the total while features are computed.
    """

    def __init__(
        self,
        crops: Sequence[ScoredCrop],
        pixels: ChosenPixels,
        base: FeatureSet,
        *,
        extractor_of: ExtractorOf,
        noise_seed: int,
        memory_bytes: int,
        on_crop: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        self.pixels = pixels
        self._crops, self._base, self._extractor_of, self._noise_seed = crops, base, extractor_of, noise_seed
        self._memory_bytes, self._on_crop = memory_bytes, on_crop
        self._columns: dict[Column, Tensor] = {}
        self._base_kind = Pass("ddpm", base.views[0], base.scale)
        self._unit_s: dict[tuple[str, float], float] = {}  # seconds per crop of a pass of each extractor and scale

    def fits(self, features: FeatureSet) -> bool:
        """Return whether a set fits in memory."""
        return self._needed_bytes(features) <= self._memory_bytes

    def seconds_per_crop(self, features: FeatureSet) -> float:
        """Return the measured seconds per crop; for a new scale, extrapolated by area."""
        return sum(self._seconds(one) for one in _passes(features))

    def seconds_to_compute(self, features: FeatureSet) -> float:
        """Estimate the seconds for computing the missing columns of a set."""
        return sum(self._seconds(one) for one in self._missing(features)) * len(self._crops)

    def views(self, features: FeatureSet) -> list[list[tuple[Tensor, ...]]]:
        """Return the columns of a set, computing missing ones.

        Returns:
            Per mirror image and column (timestep-major, other extractors last) a (P, C) float16 tensor per noise, to be
            averaged.
        """
        missing = self._missing(features)
        if missing:
            self._make_room(features)
        for kind in dict.fromkeys(one._replace(timestep=0) for one in missing):
            timesteps = tuple(one.timestep for one in missing if one._replace(timestep=0) == kind)
            self._compute(kind, self._base.taps if kind == self._base_kind else features.taps, timesteps)
        return [
            [tuple(self._columns[column] for column in noises) for noises in view] for view in _columns_of(features)
        ]

    def _seconds(self, one: Pass) -> float:
        if (one.extractor, one.scale) in self._unit_s:
            return self._unit_s[one.extractor, one.scale]
        # Extractors other than the network are cheap compared with it; unmeasured ones count as free.
        known = [
            seconds * (one.scale / scale) ** 2
            for (extractor, scale), seconds in self._unit_s.items()
            if extractor == one.extractor
        ]
        return max(known, default=0.0)

    def _missing(self, features: FeatureSet) -> list[Pass]:
        return [
            one
            for one in _passes(features)
            if any((one, name) not in self._columns for name in _names(one, features.taps))
        ]

    def _needed_bytes(self, features: FeatureSet) -> int:
        settings = FeatureSettings(features.taps, features.timesteps, features.scale, 0, features.extractors)
        width = sum(self._extractor_of(settings).channels)
        rows = len(self.pixels.classes) * len(features.views) * features.noises
        return 2 * width * (rows + int((~self.pixels.held_out).sum()))

    def _make_room(self, features: FeatureSet) -> None:
        """Drop cached columns that this set does not need, if both do not fit."""
        wanted = {column for view in _columns_of(features) for noises in view for column in noises}
        others = sum(t.numel() * t.element_size() for column, t in self._columns.items() if column not in wanted)
        if others + self._needed_bytes(features) > self._memory_bytes:
            self._columns = {column: t for column, t in self._columns.items() if column in wanted}

    def _compute(self, kind: Pass, taps: tuple[str, ...], timesteps: tuple[int, ...]) -> None:
        """Process all crops; ``kind`` is one of the passes, with any timestep."""
        settings = FeatureSettings(taps, timesteps, kind.scale, self._noise_seed + kind.noise, (kind.extractor,))
        extractor, begin, start = self._extractor_of(settings), time.perf_counter(), 0
        columns = [torch.empty(len(self.pixels.classes), c, dtype=torch.float16) for c in extractor.channels]
        for number, (crop, xy) in enumerate(zip(self._crops, self.pixels.places, strict=True)):
            picture, places = flipped(crop.picture(), xy, kind.flip)
            stack = gather(extractor(to_input(picture[None])), places).cpu().half()
            check_finite(stack, crop=crop.crop)
            for column, part in zip(columns, torch.split(stack, extractor.channels, dim=1), strict=True):
                column[start : start + len(xy)] = part
            start += len(xy)
            self._on_crop(number + 1, len(self._crops))
        keys = [(kind._replace(timestep=t), name) for t in timesteps for name in _names(kind, taps)]
        self._columns.update(zip(keys, columns, strict=True))
        self._unit_s.setdefault(
            (kind.extractor, kind.scale), (time.perf_counter() - begin) / len(self._crops) / len(timesteps)
        )


def _names(one: Pass, taps: tuple[str, ...]) -> tuple[str, ...]:
    """Return the column names of a pass."""
    return _JOINED.get(one.extractor, taps)


def _passes(features: FeatureSet) -> list[Pass]:
    noises, joined = range(features.noises), [name for name in _JOINED if name in features.extractors]
    timesteps = features.timesteps if features.has_taps else ()
    network = [Pass("ddpm", flip, features.scale, n, t) for flip in features.views for n in noises for t in timesteps]
    return network + [Pass(name, flip) for flip in features.views for name in joined]


def _columns_of(features: FeatureSet) -> list[list[tuple[Column, ...]]]:
    """Return the column names per mirror image, each with its noises."""
    noises, timesteps = range(features.noises), features.timesteps if features.has_taps else ()
    return [
        [
            *(
                tuple((Pass("ddpm", flip, features.scale, n, t), tap) for n in noises)
                for t in timesteps
                for tap in features.taps
            ),
            *(
                ((Pass(name, flip), column),)
                for name, columns in _JOINED.items()
                if name in features.extractors
                for column in columns
            ),
        ]
        for flip in features.views
    ]
