"""What is trained, and how."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.mask_loss import DrawMasks
from cytoseg.diffusion.settings import TrainSettings


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
