"""Choosing crops and pixels of a feature selection within its limits."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.errors import CytosegError
from cytoseg.evaluation.evaluate import ScoredCrop
from cytoseg.features.extract import FeatureExtractor, gather, to_input
from cytoseg.features.settings import FeatureSettings
from cytoseg.studies.feature_selection.columns import ExtractorOf
from cytoseg.studies.feature_selection.cross_validation import by_turns
from cytoseg.studies.feature_selection.settings import Question
from cytoseg.studies.result_cache import StoredResult, digest_of, read_result, result_file, write_result

MIN_PX = 16
"""Minimum number of pixels per crop."""
_SHARE_FOR_FEATURES = 0.4


@dataclass(frozen=True)
class Limits:
    """Limits of a selection.

    Attributes:
        seconds: Time limit in seconds; a started measurement is finished.
        memory_bytes: Memory limit for features.
    """

    seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class _Affordable(StoredResult):
    """How many crops were used within how many seconds."""

    crops: int
    seconds: float


_AFFORDABLE = result_file(_Affordable)


def affordable_crops(
    question: Question, extractor_of: ExtractorOf, *, seconds: float, path: Path
) -> tuple[ScoredCrop, ...]:
    """Choose as many crops as 40 % of the time allows for computing features, round-robin by slide.

    Args:
        question: The question, with crops and candidates.
        extractor_of: Makes the extractor of some settings.
        seconds: Total time limit.
        path: JSON file with the number, so that a second run uses the same crops, even with more time if all were used.

    Returns:
        At least one crop per fold.

    Raises:
        LabelError: If all crops are of one slide.
    """
    ordered = by_turns(question.crops, seed=question.seed)
    settings = _everything(question)
    digest = digest_of(
        {
            "details": dict(question.details),
            "timesteps": list(settings.timesteps),
            "scale": settings.scale,
            "extractors": list(settings.extractors),
        }
    )
    found = read_result(path, digest, _AFFORDABLE)
    if found is not None and found.crops < min(len(ordered), question.effort.folds):
        found = None  # damaged
    used_all = found is not None and found.crops == len(ordered) and found.seconds <= seconds
    if found is None or (found.seconds != seconds and not used_all):
        needed_s = np.cumsum(_seconds_of(ordered, extractor_of(settings)))
        affordable = int((needed_s <= _SHARE_FOR_FEATURES * seconds).sum())
        crops = min(len(ordered), max(question.effort.folds, affordable))
        found = write_result(path, _Affordable(digest, crops, seconds), _AFFORDABLE)
    return tuple(ordered[: found.crops])


def _seconds_of(crops: Sequence[ScoredCrop], extractor: FeatureExtractor) -> NDArray[np.float64]:
    """Measure the time for the largest crop, and scale by area for the others."""
    pictures = [crop.picture() for crop in crops]
    areas = np.array([picture.shape[0] * picture.shape[1] for picture in pictures], np.float64)
    one = to_input(pictures[int(areas.argmax())][None])

    def compute() -> None:
        gather(extractor(one), np.zeros((1, 2), np.int64)).cpu()  # synchronises with a GPU

    compute()  # the first call includes initialisation
    begin = time.perf_counter()
    compute()
    seconds: NDArray[np.float64] = (time.perf_counter() - begin) * areas / areas.max()
    return seconds


def pixels_within(
    question: Question, extractor_of: ExtractorOf, crops: Sequence[ScoredCrop], *, memory_bytes: int
) -> tuple[int, int]:
    """Choose as many pixels per crop as fit in memory at all taps and timesteps.

    Args:
        question: The question, with wanted pixels and candidates.
        extractor_of: Makes the extractor of some settings.
        crops: The crops used.
        memory_bytes: Limit for all features and the training table.

    Returns:
        Training and scoring pixels per crop.

    Raises:
        CytosegError: If there would be too few.
    """
    train_px, held_out_px = question.effort.train_px, question.effort.held_out_px
    width = sum(extractor_of(_everything(question)).channels)
    needed = 2 * width * len(crops) * (2 * train_px + held_out_px)
    share = min(1.0, memory_bytes / needed)
    if share * min(train_px, held_out_px) < MIN_PX:
        least = needed * MIN_PX / min(train_px, held_out_px)
        raise CytosegError(
            f"select-features: {memory_bytes / 1e6:.0f} MB of memory is too little for {len(crops)} crops with "
            f"{width:,} features per pixel. Give --memory {least / 1e6:.0f}M or more, or fewer --timesteps."
        )
    return int(share * train_px), int(share * held_out_px)


def _everything(question: Question) -> FeatureSettings:
    scale, seed = question.present.scale, question.noise_seed
    return FeatureSettings(question.taps, question.timesteps, scale, seed, question.extractors)
