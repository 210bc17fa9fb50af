"""Plan of a diffusion training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.class_map import DrawMaps
from cytoseg.diffusion.mask_loss import DrawMasks
from cytoseg.diffusion.settings import TrainSettings


@dataclass(frozen=True)
class TrainPlan:
    """Everything that defines a training.

    Attributes:
        architecture: Architecture of the network.
        settings: Training settings.
        recipe: The whole recipe as JSON, stored in every checkpoint.
        init: The ``ddpm`` folder or checkpoint whose averaged weights are the start; None for random weights.
        slides: Digest of the slides that the crops come from.
        masks: Draws the parts of labelled sources; None without sources.
        maps: Gives crops their class maps or small images; None for a network that is not conditioned on them.
        maps_from: Digest of the source of class maps.
        autoencoder: Folder of the trained autoencoder of a latent space; None in pixel space.
    """

    architecture: Architecture
    settings: TrainSettings
    recipe: Mapping[str, Any]
    init: Path | None = None
    slides: str = ""
    masks: DrawMasks | None = None
    maps: DrawMaps | None = None
    maps_from: str = ""
    autoencoder: Path | None = None
