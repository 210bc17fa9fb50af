"""How to train the diffusion model: the recipe's section training."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from cytoseg.settings import RULES


@dataclass(frozen=True)
class TrainingSection:
    """How the diffusion model is trained."""

    __pydantic_config__ = RULES

    compile: bool = False
    """Let torch.compile make kernels for the network first: minutes at first, then faster steps on a GPU."""
    init: Path | None = None
    """Start from the averaged weights of another run's ddpm folder, of one checkpoint, or of a base model by its name,
    such as cytology-base; instead of from nothing. What the section diffusion does not set is then as that model has
    it."""
    crops: Annotated[int, Ge(1)] = 1_000_000
    """Length of the training in crops seen."""
    batch: Annotated[int, Ge(1), Le(4096)] = 16
    """Crops per step, over all GPUs."""
    micro_batch: Annotated[int, Ge(1), Le(4096)] | None = None
    """Most crops that one GPU takes at once; the others follow in turns, with the same result. null: all at once."""
    rate: Annotated[float, Gt(0), Le(0.1)] = 1e-4
    """Highest learning rate of Adam."""
    rate_schedule: Literal["constant", "cosine"] = "constant"
    """constant for long trainings that may be extended; cosine falls to a tenth and suits short ones."""
    warmup_crops: Annotated[int, Ge(0)] = 0
    """Crops over which the rate rises from zero."""
    ema_decay: Annotated[float, Ge(0), Lt(1)] = 0.9999
    """Decay per step of the averaged weights, which features and samples use."""
    clip_norm: Annotated[float, Gt(0)] = 1.0
    """Largest gradient norm."""
    encoder_rate: Annotated[float, Ge(0), Le(1)] = 0.3
    """Learning rate of an ImageNet encoder, as a share of rate."""
    highest_t: Annotated[int, Ge(1)] | None = None
    """Noise is drawn at timesteps below this one; null draws all. Samples need all."""
    denoising_weight: Annotated[float, Ge(0), Le(100)] = 1.0
    """Weight of the denoising loss; 0 learns from labels.sources alone."""
    mask_weight: Annotated[float, Ge(0), Le(100)] = 1.0
    """Weight of the mask loss of labels.sources, where there are any."""
    precision: Literal["no", "bf16"] = "no"
    """no is fp32; bf16 is faster where the processor has it."""
    seed: Annotated[int, Ge(0), Lt(2**31)] = 0
    """Decides crops, noise, first weights, label split, pixels and interpreters."""
    checkpoint_crops: Annotated[int, Ge(1)] = 50_000
    """Crops between two checkpoints."""
    keep_checkpoints: Annotated[int, Ge(1)] = 2
    """How many of the newest checkpoints are kept."""
    keep_every: Annotated[int, Ge(0)] = 10
    """Every how many checkpoints one is kept permanently; 0 keeps none."""
    workers: Annotated[int, Ge(0), Le(64)] = 2
    """Processes that read crops; 0 reads in the training process. The crops are the same whatever the number."""
    device: str = "auto"
    """Where every command computes: auto takes a GPU where there is one."""
    samples: Annotated[int, Ge(0), Le(256)] = 16
    """Images drawn to look at."""
    look_crops: Annotated[int, Ge(1)] | None = None
    """Crops between two drawings of samples, denoised crops and the loss; null draws at the end only."""
    track: Literal["none", "tensorboard"] = "none"
    """tensorboard also logs for TensorBoard (extra track); metrics.jsonl is always written."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings(TrainingSection):
    """The section with what training needs of others.

    Attributes:
        size_px: Side of a crop.
    """

    size_px: int

    @property
    def together(self) -> int:
        """Most crops that one process takes at once; more are taken in turns and their gradients added."""
        return self.micro_batch or self.batch


def passed(every: int, before: int, now: int) -> bool:
    """Return whether a multiple of ``every`` lies after ``before`` and not after ``now``."""
    return now // every > before // every


def rate_at(crops_seen: int, settings: TrainSettings) -> float:
    """Compute the learning rate after ``crops_seen`` crops: linear warm-up, then constant or cosine."""
    warm = min(1.0, (crops_seen + settings.batch) / settings.warmup_crops) if settings.warmup_crops else 1.0
    if settings.rate_schedule == "constant":
        return settings.rate * warm
    done = min(1.0, crops_seen / settings.crops)
    return settings.rate * warm * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * done)))
