"""Recipe sections diffusion and training."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf

from cytoseg.diffusion.adm_settings import AS_PUBLISHED, AdmSettings
from cytoseg.settings import RULES


@dataclass(frozen=True)
class DiffusionSection:
    """The diffusion model's network and process."""

    __pydantic_config__ = RULES

    backbone: Literal["lucidrains", "pretrained", "adm"] = "lucidrains"
    """lucidrains is the U-Net of denoising-diffusion-pytorch, as in the published method. pretrained is a smaller U-Net
    whose encoder starts from ImageNet weights (extra pretrained); write dim 16 and dim_mults [3, 4, 6] with it. adm is
    the U-Net of guided-diffusion, whose files `import-model` reads; the section adm sets its blocks."""
    dim: Annotated[int, Ge(8), Le(512), MultipleOf(8)] = 64
    """Base of dim_mults; with lucidrains the channels at the finest resolution. 64 is the published size, 32 trains on
    a CPU."""
    dim_mults: Annotated[tuple[Annotated[int, Ge(1), Le(32)], ...], MinLen(2), MaxLen(6)] = (1, 2, 4, 8)
    """Channel multiplier of each resolution of the decoder, finest first; three with pretrained."""
    timesteps: Annotated[int, Ge(10), Le(10_000)] = 1000
    """Number of noise levels T."""
    schedule: Literal["linear", "cosine", "sigmoid"] = "linear"
    """Noise schedule; feature timesteps depend on it."""
    objective: Literal["pred_noise", "pred_x0", "pred_v"] = "pred_noise"
    """What the network predicts; the loss is the squared (L2) error. pred_noise is the published choice for features;
    with it an error at the highest t gives DDIM samples a false colour, less so with pred_v."""
    learn_variance: bool = False
    """Also predict the variance of each reverse step: DDPM samples in few steps. Only with adm and pred_noise."""
    channels: Literal[1, 3] = 3
    """Channels of the images: 3 is RGB; 1 is grey, for slides and samples without colour. A colour slide is then read
    as the mean of its channels. Not with pretrained."""
    condition: Literal["none", "map"] = "none"
    """map also gives the network the class map of each crop, from the run's labels and interpreter, so that it can draw
    images of a given map (`sample --maps`, `edit`). Train the interpreter first; only with adm."""
    upsample_from: Path | None = None
    """Enlarge small images instead of drawing from noise alone: the ddpm folder, name or recipe of the run that draws
    them, with the same channels and its slides.mpp larger by the same factor as its crops are smaller. Only with
    adm."""
    upsample: Annotated[int, Ge(1), Le(16)] = 1
    """How many times crops are larger than the small images; follows from upsample_from. Without that run 2 trains a
    network that enlarges real crops alone (`sample --small crops`); 1 enlarges nothing."""
    adm: AdmSettings = AS_PUBLISHED
    """The blocks of the backbone adm."""


@dataclass(frozen=True)
class TrainingSection:
    """How the diffusion model is trained."""

    __pydantic_config__ = RULES

    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, then faster steps on a GPU."""
    init: Path | None = None
    """Start from the averaged weights of another run's ddpm folder, of one checkpoint, or of a base model by name,
    such as cytology-base, instead of random weights. Unset keys of the section diffusion are taken from that model."""
    crops: Annotated[int, Ge(1)] = 1_000_000
    """Length of the training in crops seen."""
    batch: Annotated[int, Ge(1), Le(4096)] = 16
    """Crops per step, over all GPUs."""
    micro_batch: Annotated[int, Ge(1), Le(4096)] | None = None
    """Most crops per GPU in one pass; the rest follow by gradient accumulation with the same result. null: all at
    once."""
    rate: Annotated[float, Gt(0), Le(0.1)] = 1e-4
    """Highest learning rate of Adam."""
    rate_schedule: Literal["constant", "cosine"] = "constant"
    """constant for long trainings that may be extended; cosine decays to a tenth and suits short ones."""
    warmup_crops: Annotated[int, Ge(0)] = 0
    """Crops of the linear warm-up of the rate."""
    ema_decay: Annotated[float, Ge(0), Lt(1)] = 0.9999
    """Decay per step of the averaged (EMA) weights, which features and samples use."""
    clip_norm: Annotated[float, Gt(0)] = 1.0
    """Largest gradient norm."""
    encoder_rate: Annotated[float, Ge(0), Le(1)] = 0.3
    """Learning rate of an ImageNet encoder, as a fraction of rate."""
    highest_t: Annotated[int, Ge(1)] | None = None
    """Train only on timesteps below this one; null uses all, which sampling needs."""
    denoising_weight: Annotated[float, Ge(0), Le(100)] = 1.0
    """Weight of the denoising loss; 0 trains on labels.sources alone."""
    mask_weight: Annotated[float, Ge(0), Le(100)] = 1.0
    """Weight of the mask loss of labels.sources, if there are any."""
    precision: Literal["no", "bf16"] = "no"
    """no is fp32; bf16 is faster, and is used only on devices that compute it: elsewhere fp32 is."""
    seed: Annotated[int, Ge(0), Lt(2**31)] = 0
    """Seed of crops, noise, initial weights, label split, pixels and interpreters."""
    checkpoint_crops: Annotated[int, Ge(1)] = 50_000
    """Crops between two checkpoints."""
    keep_checkpoints: Annotated[int, Ge(1)] = 2
    """Number of newest checkpoints to keep."""
    keep_every: Annotated[int, Ge(0)] = 10
    """Keep every n-th checkpoint permanently; 0 keeps none."""
    workers: Annotated[int, Ge(0), Le(64)] = 2
    """Worker processes that read crops; 0 reads in the training process. The crops do not depend on it."""
    device: str = "auto"
    """Device of all commands: auto takes a GPU if there is one."""
    samples: Annotated[int, Ge(0), Le(256)] = 16
    """Number of sample images drawn during training."""
    look_crops: Annotated[int, Ge(1)] | None = None
    """Crops between two drawings of samples, denoised crops and the loss; null draws only at the end."""
    track: Literal["none", "tensorboard"] = "none"
    """tensorboard also logs for TensorBoard (extra track); metrics.jsonl is always written."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings(TrainingSection):
    """The recipe section with values of other sections.

    Attributes:
        size_px: Side of a crop.
        adversarial_from: Crops after which the discriminator of an autoencoder takes part; None for never.
    """

    size_px: int
    adversarial_from: int | None = None

    @property
    def together(self) -> int:
        """Most crops per process in one pass; more are split by gradient accumulation."""
        return self.micro_batch or self.batch


def lack_of_denoising(recipe: Any) -> Literal["denoising_weight", "highest_t"] | None:
    """Name the key of ``training`` that kept a model from learning to denoise, or to denoise strong noise.

    Args:
        recipe: The recipe in the state of its checkpoint; None or incomplete in older versions, which learned both.
    """
    try:
        training = recipe["training"]
        if training["denoising_weight"] == 0:
            return "denoising_weight"
        below_all = (training.get("highest_t") or math.inf) < recipe["diffusion"]["timesteps"]
    except (AttributeError, LookupError, TypeError):
        return None
    return "highest_t" if below_all else None


def crosses_multiple(every: int, before: int, now: int) -> bool:
    """Return whether there is a multiple of ``every`` in (``before``, ``now``]."""
    return now // every > before // every


def rate_at(crops_seen: int, settings: TrainSettings) -> float:
    """Compute the learning rate after ``crops_seen`` crops: linear warm-up, then constant or cosine."""
    warm = min(1.0, (crops_seen + settings.batch) / settings.warmup_crops) if settings.warmup_crops else 1.0
    if settings.rate_schedule == "constant":
        return settings.rate * warm
    done = min(1.0, crops_seen / settings.crops)
    return settings.rate * warm * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * done)))
