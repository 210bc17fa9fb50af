"""How to train the diffusion model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.mask_loss import DrawMasks


@dataclass(frozen=True)
class TrainSettings:
    """How to train.

    Attributes:
        crops: Length of the training, in crops seen.
        batch: Crops per step, over all processes.
        micro_batch: Most crops that one process takes at once; more are taken in turns and their gradients added.
        size_px: Side of a crop.
        rate: Highest learning rate of Adam.
        rate_schedule: ``constant``, or ``cosine`` down to a tenth at the end.
        warmup_crops: Crops over which the rate rises from 0.
        ema_decay: Decay per step of the averaged weights, reached after a warm-up.
        clip_norm: Largest gradient norm.
        precision: ``no`` (fp32) or ``bf16``.
        seed: Of crops, timesteps, noise and first weights.
        checkpoint_crops: Crops between two checkpoints.
        keep: Newest checkpoints that are kept.
        keep_every: Every so many checkpoints one is kept for good; 0 for none.
        workers: Processes that read crops, for each that trains; 0 reads in the training process.
        compile: Let torch.compile make kernels for the network first: minutes before the first step, then faster ones.
        timesteps: Noise is drawn at timesteps below this one; None draws at all.
        encoder_rate: Rate of an ImageNet encoder, as a share of ``rate``.
        denoising_weight: Of the denoising loss; 0 leaves it out.
        mask_weight: Of the mask loss, where there are labelled sources.
    """

    crops: int
    batch: int
    micro_batch: int
    size_px: int
    rate: float
    rate_schedule: str
    warmup_crops: int
    ema_decay: float
    clip_norm: float
    precision: str
    seed: int
    checkpoint_crops: int
    keep: int
    keep_every: int
    workers: int
    compile: bool = False
    timesteps: int | None = None
    encoder_rate: float = 1.0
    denoising_weight: float = 1.0
    mask_weight: float = 1.0


@dataclass(frozen=True)
class TrainPlan:
    """What is trained and how.

    Attributes:
        architecture: Of the network.
        settings: How to train.
        recipe: The whole recipe as JSON holds it, kept in every checkpoint.
        init: The ``ddpm`` folder or checkpoint whose averaged weights a new training starts from; None for fresh ones.
        slides: What identifies the slides that the crops come from.
        masks: Draws the parts of labelled sources; None without sources.
    """

    architecture: Architecture
    settings: TrainSettings
    recipe: Mapping[str, Any]
    init: Path | None = None
    slides: str = ""
    masks: DrawMasks | None = None


def passed(every: int, before: int, now: int) -> bool:
    """Say whether a multiple of ``every`` lies after ``before`` and not after ``now``."""
    return now // every > before // every


def rate_at(crops_seen: int, settings: TrainSettings) -> float:
    """Compute the learning rate after ``crops_seen`` crops: linear warm-up, then constant or cosine."""
    warm = min(1.0, (crops_seen + settings.batch) / settings.warmup_crops) if settings.warmup_crops else 1.0
    if settings.rate_schedule == "constant":
        return settings.rate * warm
    done = min(1.0, crops_seen / settings.crops)
    return settings.rate * warm * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * done)))
