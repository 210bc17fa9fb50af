"""Live refit of the MLPs while annotating, on cached features."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from cytoseg.caches import memory_cache
from cytoseg.classes import IGNORE
from cytoseg.features.extract import FeatureExtractor, NativeFeatures, gather, to_input
from cytoseg.features.pixel_table import GATHERED_PX, PixelTable, choose_pixels
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.native_inference import member_probabilities
from cytoseg.interpreter.settings import EnsembleSettings
from cytoseg.interpreter.train_mlps import train_ensemble
from cytoseg.interpreter.vote import jensen_shannon, vote
from cytoseg.labels.index import LabelledCrop, pixel_hash
from cytoseg.seeds import seed_for

MEMBERS, STEPS, PIXELS_PER_CROP = 5, 150, 500
"""Measured by tests/benchmarks/live.py: a third of a second of training for any number of crops."""
MAPS_BYTES, ROWS_BYTES = 1_500_000_000, 1_000_000_000
"""Memory limits of the feature maps of crops and of the features of their chosen pixels, and of pixels to rate."""


@dataclass(frozen=True, eq=False)
class LiveView:
    """Current prediction of the MLPs on a crop.

    Attributes:
        class_map: (H, W) uint8 ids.
        disagreement: (H, W) float32 in nats.
        crops: Number of training crops, including this one.
        seconds: Time for training and prediction.
    """

    class_map: NDArray[np.uint8]
    disagreement: NDArray[np.float32]
    crops: int
    seconds: float


@dataclass(frozen=True, eq=False)
class _Rows:
    """Chosen pixels of a crop: (P, D) float16 features, (P,) ids, and labelled pixels by class id."""

    features: torch.Tensor
    ids: torch.Tensor
    counts: dict[int, int]


class LiveInterpreter:
    """Refits the MLPs on labelled crops and predicts one; caches features by crop content.

    Full feature maps are cached for a few crops, for the others only the features of the chosen pixels. Not
    thread-safe.

    Args:
        extractor: Feature extractor; a new network needs a new object.
        classes: K.
        settings: The recipe's ensemble settings; members and steps are reduced for interactive use.
        rule: Voting rule.
        precision: Precision of the first layer, see ``member_probabilities``.
    """

    def __init__(
        self, extractor: FeatureExtractor, classes: int, settings: EnsembleSettings, *, rule: str, precision: str
    ) -> None:
        self._extractor, self._classes, self._rule, self._precision = extractor, classes, rule, precision
        self._settings = replace(
            settings,
            mode="tuned",
            members=min(MEMBERS, settings.members),
            steps=min(STEPS, settings.steps),
            early_stopping=False,
            calibrate=False,
        )
        self._maps = memory_cache(MAPS_BYTES, _maps_bytes)
        self._rows = memory_cache(ROWS_BYTES, _rows_bytes)
        self._samples = memory_cache(ROWS_BYTES, _sample_bytes)
        self._ensemble: Ensemble | None = None

    def view(
        self, picture: NDArray[np.uint8], label_map: NDArray[np.uint8] | None, others: Sequence[LabelledCrop]
    ) -> LiveView:
        """Train on labelled crops and predict one.

        Args:
            picture: (H, W, 3) uint8, the crop to predict.
            label_map: (H, W) uint8 ids, 255 where unmarked; None to exclude it from training.
            others: Other training crops.

        Raises:
            LabelError: If fewer than two classes are marked, or a crop's files are damaged.
        """
        begin = time.perf_counter()
        features = self._features(picture)
        found = [self._kept_rows(crop) for crop in others]
        if label_map is not None and bool((label_map != IGNORE).any()):
            found.append(self._chosen(features, label_map, seed_for(self._settings.seed, 0, what="live")))
        trained = train_ensemble(
            _table(found),
            self._classes,
            slides=[""] * len(found),
            settings=self._settings,
            device=self._extractor.device,
        )
        self._ensemble = trained.ensemble.eval()
        members = member_probabilities(trained.ensemble, features, precision=self._precision)
        probabilities = vote(members, rule=self._rule)[0]
        return LiveView(
            probabilities.argmax(0).to(torch.uint8).cpu().numpy(),
            jensen_shannon(members)[0].cpu().numpy(),
            len(found),
            time.perf_counter() - begin,
        )

    @torch.inference_mode()
    def mean_disagreements(
        self, waiting: Mapping[str, Callable[[], NDArray[np.uint8]]], *, new: int
    ) -> dict[str, float]:
        """Rate crops by the mean disagreement of the MLPs that the last view has trained, at pixels drawn at random.

        Args:
            waiting: For each crop, by a name that identifies its content, a function that reads its (H, W, 3) image.
            new: Number of crops whose features may be computed now. The others are left out until a later call, so
                that no stroke waits for all of them.

        Returns:
            Mean disagreement in nats by name; empty before the first view.

        Raises:
            CytosegError: If an image is damaged.
        """
        if self._ensemble is None:
            return {}
        for name in [name for name in waiting if name not in self._samples][:new]:
            self._samples[name] = self._sample(waiting[name]())
        return {
            name: _mean_disagreement(self._ensemble, self._samples[name]) for name in waiting if name in self._samples
        }

    def _sample(self, picture: NDArray[np.uint8]) -> torch.Tensor:
        """Return (P, D) float16 features of pixels drawn at random; full maps would displace those of marked crops."""
        everywhere = np.zeros(picture.shape[:2], np.uint8)
        pixels, _ = choose_pixels(everywhere, PIXELS_PER_CROP, balance="none", seed=self._settings.seed)
        return gather(self._extractor(to_input(picture[None])), pixels).half()

    def _features(self, picture: NDArray[np.uint8]) -> NativeFeatures:
        key = pixel_hash(picture)
        if key not in self._maps:
            self._maps[key] = self._extractor(to_input(picture[None]))
        return self._maps[key]

    def _kept_rows(self, crop: LabelledCrop) -> _Rows:
        key = crop.image_sha256, crop.label_sha256
        if key not in self._rows:
            seed = seed_for(self._settings.seed, int(crop.image_sha256[:8], 16), what="live")
            self._rows[key] = self._chosen(self._features(crop.picture()), crop.label_map(), seed)
        return self._rows[key]

    def _chosen(self, features: NativeFeatures, label_map: NDArray[np.uint8], seed: int) -> _Rows:
        pixels, ids = choose_pixels(label_map, PIXELS_PER_CROP, balance="classes", seed=seed)
        parts = [gather(features, pixels[i : i + GATHERED_PX]).cpu().half() for i in range(0, len(pixels), GATHERED_PX)]
        rows = torch.cat(parts) if parts else torch.empty(0, sum(self._extractor.channels), dtype=torch.float16)
        labelled, counts = np.unique(label_map[label_map != IGNORE], return_counts=True)
        return _Rows(rows, torch.from_numpy(ids), dict(zip(labelled.tolist(), counts.tolist(), strict=True)))


def _mean_disagreement(ensemble: Ensemble, features: torch.Tensor) -> float:
    probabilities = ensemble(features.float().expand(ensemble.members, -1, -1)).softmax(-1)
    return float(jensen_shannon(probabilities[..., None, None]).mean())


def _maps_bytes(features: NativeFeatures) -> int:
    return sum(native.nbytes for native in features.maps)


def _rows_bytes(rows: "_Rows") -> int:
    return rows.features.nbytes


def _sample_bytes(features: torch.Tensor) -> int:
    return features.nbytes


def _table(found: Sequence[_Rows]) -> PixelTable:
    counts: dict[int, int] = {}
    for rows in found:
        for class_id, count in rows.counts.items():
            counts[class_id] = counts.get(class_id, 0) + count
    crops = [torch.full((len(rows.ids),), number, dtype=torch.int64) for number, rows in enumerate(found)]
    if not found:
        return PixelTable(torch.empty(0, 1), torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), {})
    return PixelTable(
        torch.cat([rows.features for rows in found]), torch.cat([rows.ids for rows in found]), torch.cat(crops), counts
    )
