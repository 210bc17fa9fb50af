"""Features of chosen pixels by tap and timestep, each computed once, so that any set of them can be tried."""

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
"""The columns of what is joined to the taps, in the order in which it is."""


class Pass(NamedTuple):
    """One run of an extractor over a crop, which gives several columns; scale, noise and timestep are ddpm's."""

    extractor: ExtractorName
    flip: Flip
    scale: Scale = 1
    noise: int = 0
    timestep: int = 0


Column = tuple[Pass, str]


class ColumnStore:
    """Computes features of the chosen pixels when they are first asked for, and keeps them while memory lasts.

    Args:
        crops: The crops.
        pixels: Their pixels.
        base: All taps at the usual scale. What is computed like it is computed for all of its taps at once, for other
            sets ask for them too; anything else is computed for the taps asked for.
        extractor_of: Makes the extractor of some settings.
        noise_seed: Of the first noise tensor; further ones count up.
        memory_bytes: What the features, and the table joined of them to train on, may take.
        on_crop: Told how many crops are done, of how many, whenever features are computed.
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
        self._unit_s: dict[tuple[str, int], float] = {}  # seconds per crop of a pass of each extractor and scale

    def fits(self, features: FeatureSet) -> bool:
        """Return whether a set can be measured within the memory."""
        return self._needed_bytes(features) <= self._memory_bytes

    def seconds_per_crop(self, features: FeatureSet) -> float:
        """Tell how long the features of a crop take, as measured; at a new scale, as its area lets expect."""
        return sum(self._seconds(one) for one in _passes(features))

    def seconds_to_compute(self, features: FeatureSet) -> float:
        """Tell how long it takes to compute what is missing of a set."""
        return sum(self._seconds(one) for one in self._missing(features)) * len(self._crops)

    def views(self, features: FeatureSet) -> list[list[tuple[Tensor, ...]]]:
        """Return the columns of a set, computing what is missing.

        Returns:
            Per mirror image and column (timestep-major, what is joined last) a (P, C) float16 tensor for each
            noise, to be averaged.
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
        # What is joined takes little beside the network; what nobody has measured is not held against a set.
        known = [seconds * (one.scale / scale) ** 2 for (_, scale), seconds in self._unit_s.items() if scale]
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
        """Forget what this set does not need, where both together would not fit."""
        wanted = {column for view in _columns_of(features) for noises in view for column in noises}
        others = sum(t.numel() * t.element_size() for column, t in self._columns.items() if column not in wanted)
        if others + self._needed_bytes(features) > self._memory_bytes:
            self._columns = {column: t for column, t in self._columns.items() if column in wanted}

    def _compute(self, kind: Pass, taps: tuple[str, ...], timesteps: tuple[int, ...]) -> None:
        """Run over all crops; ``kind`` is one of the passes, whose timestep does not count."""
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
    """Name the columns of a pass."""
    return _JOINED.get(one.extractor, taps)


def _passes(features: FeatureSet) -> list[Pass]:
    noises, joined = range(features.noises), [name for name in _JOINED if name in features.extractors]
    timesteps = features.timesteps if features.has_taps else ()
    network = [Pass("ddpm", flip, features.scale, n, t) for flip in features.views for n in noises for t in timesteps]
    return network + [Pass(name, flip) for flip in features.views for name in joined]


def _columns_of(features: FeatureSet) -> list[list[tuple[Column, ...]]]:
    """Name per mirror image the columns, each by its several noises."""
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
