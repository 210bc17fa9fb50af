"""A bundle: a saved ensemble with all it needs to segment a slide."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoseg.checkpoints import load_checkpoint, load_state, save_checkpoint
from cytoseg.classes import ClassList
from cytoseg.diffusion.unet import Architecture, build_unet
from cytoseg.errors import CheckpointError
from cytoseg.features.extract import FeatureExtractor, FeatureSettings, to_input
from cytoseg.interpreter.fold import member_probabilities
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.vote import jensen_shannon, vote


@dataclass(frozen=True)
class Bundle:
    """Everything prediction needs.

    Attributes:
        unet: The noise predictor with averaged weights, in evaluation mode.
        architecture: Of the network.
        ensemble: The interpreters, in evaluation mode; carries mean and scale of the features.
        features: Taps, timesteps, scale, noise seed, filters.
        classes: Names and colours.
        mpp: Micrometres per pixel it was trained at, or None for pixels as they are.
        vote: Name of the rule, as ``vote.vote`` knows it.
        precision: Of the network's arithmetic, as the features were computed for training.
        origin: Where it came from: hashes of backbone and labels, recipe, versions.
    """

    unet: nn.Module
    architecture: Architecture
    ensemble: Ensemble
    features: FeatureSettings
    classes: ClassList
    mpp: float | None
    vote: str
    precision: str
    origin: dict[str, Any]


def save_bundle(folder: Path, bundle: Bundle) -> None:
    """Write the bundle whole or not at all.

    Raises:
        CheckpointError: If it cannot be written.
    """
    details = {
        "kind": "bundle",
        "architecture": bundle.architecture.as_json(),
        "features": asdict(bundle.features),
        "classes": asdict(bundle.classes),
        "mpp": bundle.mpp,
        "vote": bundle.vote,
        "precision": bundle.precision,
        "members": bundle.ensemble.members,
        "origin": bundle.origin,
    }
    tensors = {"backbone": bundle.unet.state_dict(), "ensemble": bundle.ensemble.state_dict()}
    save_checkpoint(folder, tensors, details)


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle back.

    Raises:
        CheckpointError: If it is missing or damaged.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: there is no checkpoint here yet. Run `cytoseg train-interpreter` with this recipe first."
        )
    checkpoint = load_checkpoint(folder)
    state = checkpoint.state
    architecture = Architecture.from_json(state["architecture"])
    unet = build_unet(architecture)
    unet.load_state_dict(checkpoint.tensors["backbone"])
    named = checkpoint.tensors["ensemble"]
    classes = state["classes"]
    ensemble = Ensemble(state["members"], len(named["mean"]), len(classes["names"]), seed=0)
    ensemble.load_state_dict(named)
    f = state["features"]
    return Bundle(
        unet.eval(),
        architecture,
        ensemble.eval(),
        FeatureSettings(tuple(f["taps"]), tuple(f["timesteps"]), f["scale"], f["noise_seed"], f.get("filters", False)),
        ClassList(tuple(classes["names"]), tuple(tuple(c) for c in classes["colours"]), classes["fill"]),
        state["mpp"],
        state["vote"],
        state["precision"],
        state["origin"],
    )


def bundle_hashes(folder: Path) -> dict[str, str]:
    """Give the content hashes of a saved bundle's weights.

    Raises:
        CheckpointError: If it is missing or damaged.
    """
    return dict(load_state(folder)["sha256"])


class EnsemblePredictor:
    """Segments tiles with a bundle: (N, H, W, 3) uint8 in, named maps out.

    Args:
        bundle: What to predict with.
        device: Where to compute.
    """

    def __init__(self, bundle: Bundle, *, device: torch.device) -> None:
        self._extract = FeatureExtractor(
            bundle.unet, bundle.architecture, bundle.features, device=device, precision=bundle.precision
        )
        self._ensemble = bundle.ensemble.to(device)
        self._vote = bundle.vote

    def __call__(self, tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        """Predict tiles.

        Returns:
            ``probabilities`` (N, K, H, W) float32 and ``disagreement`` (N, H, W) float32 in nats.
        """
        members = member_probabilities(self._ensemble, self._extract(to_input(tiles)))
        maps: dict[str, Tensor] = {
            "probabilities": vote(members, rule=self._vote),
            "disagreement": jensen_shannon(members),
        }
        return {name: tensor.cpu().numpy() for name, tensor in maps.items()}
