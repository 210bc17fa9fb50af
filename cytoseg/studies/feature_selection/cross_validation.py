"""Cross-validated scores of feature sets within time and memory limits."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.errors import LabelError
from cytoseg.evaluation.evaluate import ScoredCrop
from cytoseg.features.pixel_table import PixelTable
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.settings import EnsembleSettings
from cytoseg.interpreter.train_mlps import train_ensemble
from cytoseg.interpreter.vote import vote
from cytoseg.metrics.counts import confusion_counts
from cytoseg.metrics.segmentation import iou, mean_iou
from cytoseg.studies.feature_selection.columns import ColumnStore
from cytoseg.studies.feature_selection.pixels import FeatureSet
from cytoseg.studies.feature_selection.settings import Question
from cytoseg.studies.result_cache import StoredResult, are_counts, digest_of, read_result, result_file, write_result

_CHUNK = 2048
_PASSES = 1000.0  # only steps limit the training


@dataclass(frozen=True)
class _Measurement(StoredResult):
    """What is stored of a set: its text, and the rest as in ``Measured``."""

    set: str
    counts: tuple[tuple[tuple[int, ...], ...], ...]
    width: int
    seconds: float


_MEASUREMENT = result_file(_Measurement)


@dataclass(frozen=True)
class Measured:
    """Score of a feature set on held-out slides.

    Attributes:
        features: The set.
        counts: (R, K, K) int64 confusion counts per fold and seed.
        width: Features per pixel.
        seconds: Seconds to compute the features of one crop.
    """

    features: FeatureSet
    counts: NDArray[np.int64]
    width: int
    seconds: float

    @property
    def iou(self) -> NDArray[np.float64]:
        """(K,) IoU per class, pooled over folds and seeds; NaN if undefined."""
        return iou(self.counts.sum(axis=0))

    @property
    def score(self) -> float:
        """Mean IoU over the classes."""
        return float(mean_iou(self.counts.sum(axis=0)))


def gain(new: Measured, old: Measured) -> tuple[float, float]:
    """Compare two sets measured with the same folds and seeds.

    Returns:
        The gain in pooled mean IoU, and the spread: the standard deviation of the gains over folds and seeds.
    """
    each = mean_iou(new.counts) - mean_iou(old.counts)
    each = each[~np.isnan(each)]
    return new.score - old.score, float(each.std(ddof=1)) if len(each) > 1 else math.inf


def by_turns(crops: Sequence[ScoredCrop], *, seed: int) -> list[ScoredCrop]:
    """Order crops round-robin by slide, so that any first crops cover many slides.

    Raises:
        LabelError: If all are from one slide.
    """
    slides = sorted({crop.slide for crop in crops})
    if len(slides) < 2:
        raise LabelError(
            f"select-features: all {len(crops)} train crops are from slide {slides[0]}, but features are "
            "measured on held-out slides. Annotate crops of other slides, or use fewer test slides."
        )
    order = [slides[i] for i in np.random.default_rng(seed).permutation(len(slides))]
    of_slide = {slide: [crop for crop in crops if crop.slide == slide] for slide in order}
    rounds = max(len(found) for found in of_slide.values())
    return [of_slide[slide][i] for i in range(rounds) for slide in order if i < len(of_slide[slide])]


def fold_of_crops(crops: Sequence[ScoredCrop], folds: int) -> list[int]:
    """Assign the slides to folds in the order of the crops; return the fold of each crop."""
    slides = list(dict.fromkeys(crop.slide for crop in crops))
    fold = {slide: i % min(folds, len(slides)) for i, slide in enumerate(slides)}
    return [fold[crop.slide] for crop in crops]


class Bench:
    """Measures feature sets, reusing earlier measurements.

    Args:
        question: The question; its crops are not read here.
        store: Features of the crops used.
        crops: The crops used, in the order of the store.
        folder: Folder with a JSON file per set.
        until: Deadline by ``time.monotonic``.

    Raises:
        LabelError: If without the slides of one fold the crops show fewer than two classes.
    """

    def __init__(
        self, question: Question, store: ColumnStore, crops: Sequence[ScoredCrop], *, folder: Path, until: float
    ) -> None:
        self.left_out: list[tuple[FeatureSet, str]] = []
        self._store, self._question, self._effort = store, question, question.effort
        self._fold_of_crop = torch.tensor(fold_of_crops(crops, question.effort.folds))
        self._folder, self._until, self._longest_s = folder, until, 0.0
        self._decides = {
            "details": dict(question.details),
            "crops": [crop.crop for crop in crops],
            "pixels": len(store.pixels.classes),
            "classes": list(question.classes),
            "seeds": [question.seed, question.noise_seed],
            "rule": question.rule,
            "effort": asdict(question.effort),
        }

        for fold in range(int(self._fold_of_crop.max()) + 1):
            self._check_two_classes(fold, crops)

    def measure(self, features: FeatureSet, *, seeds: int | None = None, required: bool = False) -> Measured | None:
        """Measure a set, or return an earlier measurement.

        Args:
            features: The set.
            seeds: Trainings per fold; None for the default of the effort.
            required: Measure it even after the deadline.

        Returns:
            Its score; None if it exceeds the remaining time or the memory, which ``left_out`` records.
        """
        wanted = seeds or self._effort.seeds
        digest = digest_of({**self._decides, "set": asdict(features), "trainings": wanted})
        path = self._folder / f"{digest[:16]}.json"
        found = read_result(path, digest, _MEASUREMENT)
        if found is None or not found.counts or not are_counts(found.counts, len(self._question.classes)):
            reason = None if required else self._obstacle(features)
            if reason is not None:
                self.left_out.append((features, reason))
                return None
            found = write_result(path, self._cross_validate(features, wanted, digest=digest), _MEASUREMENT)
        return Measured(features, np.array(found.counts, np.int64), found.width, found.seconds)

    def _obstacle(self, features: FeatureSet) -> str | None:
        if not self._store.fits(features):
            return "more memory"
        expected = self._longest_s + self._store.seconds_to_compute(features)
        return "more time" if time.monotonic() + expected > self._until else None

    def _cross_validate(self, features: FeatureSet, seeds: int, *, digest: str) -> _Measurement:
        views = self._store.views(features)
        begin, counts, pixels = time.monotonic(), [], self._store.pixels
        fold_of_pixel = self._fold_of_crop[pixels.crops]
        for fold in range(int(self._fold_of_crop.max()) + 1):
            train = torch.nonzero(~pixels.held_out & (fold_of_pixel != fold))[:, 0]
            held_out = torch.nonzero(pixels.held_out & (fold_of_pixel == fold))[:, 0]
            table = PixelTable(
                features=_stack(views[0], train),
                classes=pixels.classes[train],
                crops=pixels.crops[train],
                counts=self._natural_counts(fold),
            )
            for seed in range(seeds):
                ensemble = self._train(table, seed)
                found = self._predict(ensemble, views, held_out)
                of_classes = confusion_counts(pixels.classes[held_out].numpy(), found, len(self._question.classes))
                counts.append(tuple(tuple(row) for row in of_classes.tolist()))
        self._longest_s = max(self._longest_s, time.monotonic() - begin)
        width, seconds = table.features.shape[1], self._store.seconds_per_crop(features)
        return _Measurement(digest, features.text(), tuple(counts), width, seconds)

    def _check_two_classes(self, fold: int, crops: Sequence[ScoredCrop]) -> None:
        """Refuse a fold whose training slides have fewer than two classes."""
        names, counts = self._question.classes, self._natural_counts(fold)
        shown = [repr(names[class_id]) for class_id, pixels in counts.items() if pixels]
        if len(shown) < 2:
            folds = zip(crops, self._fold_of_crop.tolist(), strict=True)
            left_out = sorted({crop.slide for crop, of_crop in folds if of_crop == fold})
            raise LabelError(
                f"select-features: one fold trains without {', '.join(left_out)}, but the other train crops show only "
                f"{', '.join(shown)}. Annotate a second class on more slides."
            )

    def _natural_counts(self, fold: int) -> dict[int, int]:
        counts: dict[int, int] = {}
        for number, of_crop in enumerate(self._store.pixels.counts):
            if self._fold_of_crop[number] != fold:
                for class_id, pixels in of_crop.items():
                    counts[class_id] = counts.get(class_id, 0) + pixels
        return counts

    def _train(self, table: PixelTable, seed: int) -> Ensemble:
        e, question = self._effort, self._question
        settings = EnsembleSettings(
            mode="tuned",
            members=e.members,
            steps=e.steps,
            passes=_PASSES,
            batch_px=e.batch_px,
            rate=e.rate,
            dropout=0.0,
            weight_decay=0.0,
            etf_weight=0.0,
            early_stopping=False,  # slides are already held out
            calibrate=False,
            seed=seed,
        )
        slides = [crop.slide for crop in question.crops]
        return train_ensemble(
            table, len(question.classes), slides=slides, settings=settings, device=question.device
        ).ensemble

    @torch.inference_mode()
    def _predict(
        self, ensemble: Ensemble, views: Sequence[Sequence[tuple[Tensor, ...]]], rows: Tensor
    ) -> NDArray[np.int64]:
        """Return the class of each row by vote of the members, averaged over mirror images."""
        found = []
        for chunk in torch.split(rows, _CHUNK):
            of_views = []
            for view in views:
                stack = _stack(view, chunk).to(self._question.device).float()
                members = ensemble(stack.expand(ensemble.members, -1, -1)).softmax(-1)
                of_views.append(vote(members[:, :, :, None, None], rule=self._question.rule)[:, :, 0, 0])
            found.append(torch.stack(of_views).mean(0).argmax(1).cpu())
        classes: NDArray[np.int64] = torch.cat(found).numpy()
        return classes


def _stack(view: Sequence[tuple[Tensor, ...]], rows: Tensor) -> Tensor:
    """Concatenate the columns of pixels, (rows, D) float16, averaged over noises."""
    parts = [
        noises[0][rows] if len(noises) == 1 else torch.stack([n[rows].float() for n in noises]).mean(0).half()
        for noises in view
    ]
    return torch.cat(parts, dim=1)
