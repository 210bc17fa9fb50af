"""What a selection of features is asked, and how thoroughly it answers."""

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
        members: Interpreters of an ensemble.
        steps: Optimiser updates of each.
        batch_px: Pixels per update and member.
        rate: Adam's learning rate at the start.
        train_px: Class-balanced pixels per crop that are trained on.
        held_out_px: Pixels per crop that are scored, as frequent as they are.
        seeds: Trainings of each set and fold.
        folds: Parts of the slides; fewer where there are fewer slides.
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
    """What features are chosen for.

    Attributes:
        crops: The train crops; test crops are never looked at.
        classes: The K class names.
        taps: Those of the network, deepest first.
        timesteps: Candidates, rising; those of the recipe are among them.
        extractors: Candidates, in the order of ``EXTRACTORS``; ddpm and those of the recipe are among them.
        present: What the recipe says now.
        rule: How the interpreters vote.
        seed: Decides folds and pixels.
        noise_seed: Of the features.
        device: Where interpreters are trained.
        details: What decides all results beside these: hashes of crops, labels and network, versions; for JSON.
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
