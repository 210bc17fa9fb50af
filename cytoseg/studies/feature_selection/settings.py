"""Question and effort of a feature selection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cytoseg.evaluation.evaluate import ScoredCrop
from cytoseg.features.settings import ExtractorName
from cytoseg.studies.feature_selection.pixels import FeatureSet


@dataclass(frozen=True)
class Effort:
    """How thoroughly each set is measured.

    Attributes:
        members: Interpreters per ensemble.
        steps: Optimiser updates.
        batch_px: Pixels per update and member.
        rate: Adam's initial learning rate.
        train_px: Class-balanced training pixels per crop.
        held_out_px: Scoring pixels per crop at natural frequencies.
        seeds: Trainings per set and fold.
        folds: Number of folds; fewer with fewer slides.
    """

    members: int = 3
    steps: int = 200
    batch_px: int = 128
    rate: float = 2e-3
    train_px: int = 2000
    held_out_px: int = 4000
    seeds: int = 2
    folds: int = 3


@dataclass(frozen=True)
class Question:
    """The question of a feature selection.

    Attributes:
        crops: The train crops; test crops are never used.
        classes: The K class names.
        taps: Taps of the network, deepest first.
        timesteps: Candidates, ascending, including those of the recipe.
        extractors: Candidates in the order of ``EXTRACTORS``, including ddpm and those of the recipe.
        present: The recipe's current features.
        rule: Voting rule.
        seed: Seed of folds and pixels.
        noise_seed: Noise seed of the features.
        device: Training device.
        details: Everything else that determines the results, as JSON: hashes of crops, labels and network, versions.
        effort: How thoroughly each set is measured.
    """

    crops: Sequence[ScoredCrop]
    classes: Sequence[str]
    taps: tuple[str, ...]
    timesteps: tuple[int, ...]
    extractors: tuple[ExtractorName, ...]
    present: FeatureSet
    rule: str
    seed: int
    noise_seed: int
    device: torch.device
    details: Mapping[str, Any]
    effort: Effort
