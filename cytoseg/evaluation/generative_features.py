"""Feature networks for comparing samples with real crops."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.diffusion.channels import as_channels
from cytoseg.diffusion.efficientnet import WEIGHTS_SHA256, LiteEncoder, load_imagenet
from cytoseg.errors import CytosegError
from cytoseg.evaluation.inception import Inception
from cytoseg.features.filters import filter_maps
from cytoseg.features.pretrained import PretrainedStages
from cytoseg.features.settings import PER_SCALE, SIGMAS_PX

GRID = 4
"""Spatial features are means over a grid of this many cells per side."""
_TOGETHER = 32

Both = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Global features and spatial features of images."""


@dataclass(frozen=True)
class FeatureNetwork:
    """A feature network; scores of different networks are not comparable.

    Attributes:
        name: ``filters``, ``lite0`` or ``inception``.
        hash: First 12 digits of a SHA-256 over everything that determines its features.
        describe: Computes features of (N, C, H, W) images in [-1, 1], C as chosen, and the (N, K) probabilities of
            its classes; None if it has no classes.
        standardises: Whether features are standardised by real crops; those of published FIDs are not.
    """

    name: str
    hash: str
    describe: Callable[[Tensor], tuple[Both, NDArray[np.float64] | None]]
    standardises: bool = True

    def features(self, pictures: Tensor) -> Both:
        """Compute only the features."""
        return self.describe(pictures)[0]

    def scaled(self, features: Both, by: Both) -> Both:
        """Standardise features for comparison, if the network's are; ``by`` are those of real crops."""
        return standardised(features, by) if self.standardises else features


def feature_network(name: str, *, channels: int = 3, weights: Path | None = None) -> FeatureNetwork:
    """Make a feature network.

    Args:
        name: ``filters`` needs no weights, and ranks blur, noise, JPEG and stain shifts as perceived. ``lite0`` is
            EfficientNet-Lite0 with its ImageNet weights (extra pretrained), as a second opinion; it ranks strong noise
            better than weak noise. ``inception`` is the network of published FIDs and Inception scores, from a file.
        channels: Of the images: 3, or 1 for grey ones, which have a third of the filters.
        weights: Weight file of ``inception``.

    Raises:
        CheckpointError: If the weights of ``lite0`` are not installed or have another hash, or ``weights`` is missing,
            damaged or of another network.
    """
    if name == "filters":
        decided = f"{name} {channels} {PER_SCALE} {SIGMAS_PX} mean sd {GRID}"
        return FeatureNetwork(name, _hash(decided), lambda pictures: (filter_features(pictures), None))
    if name == "inception":
        assert weights is not None, "the command asks for the file"
        network = Inception(weights)
        return FeatureNetwork(
            network.name, network.sha256[:12], lambda pictures: _inception(network, pictures), standardises=False
        )
    encoder = LiteEncoder()
    load_imagenet(encoder)
    stages = PretrainedStages(encoder.eval(), device=torch.device("cpu"), precision="no")
    decided = f"{name} {WEIGHTS_SHA256} {GRID}"
    return FeatureNetwork(name, _hash(decided), lambda pictures: (_lite0(stages, pictures), None))


def _inception(network: Inception, pictures: Tensor) -> tuple[Both, NDArray[np.float64]]:
    whole, spatial, classes = (found.double().numpy() for found in network(as_channels(pictures, 3)))
    return (whole, spatial), classes


def _hash(decided: str) -> str:
    return hashlib.sha256(decided.encode()).hexdigest()[:12]


@torch.inference_mode()
def _lite0(stages: PretrainedStages, pictures: Tensor) -> Both:
    """Return the means of the last stage over the image, and of the third stage over the grid."""
    height, width = pictures.shape[2:]
    if height % stages.multiple_px or width % stages.multiple_px:
        raise CytosegError(
            f"lite0: images of {width}x{height} px, but it takes multiples of {stages.multiple_px}. Take filters."
        )
    whole, spatial = [], []
    for part in torch.split(as_channels(pictures, 3), _TOGETHER):
        found = stages(part)
        whole.append(found[-1].double().mean((2, 3)))
        spatial.append(torch.nn.functional.adaptive_avg_pool2d(found[2].double(), GRID).flatten(1))
    return torch.cat(whole).numpy(), torch.cat(spatial).numpy()


@torch.inference_mode()
def filter_features(pictures: Tensor) -> Both:
    """Compute features of each image from the 24 filters of each channel.

    Args:
        pictures: (N, C, H, W) in [-1, 1]; each side at least 4.

    Returns:
        (N, 48 C), mean and standard deviation of each filter over the image; and (N, 384 C), its means over a 4x4
        grid.
    """
    whole, spatial = [], []
    for part in torch.split(pictures, _TOGETHER):
        maps = filter_maps(part).double()
        whole.append(torch.cat([maps.mean((2, 3)), maps.std((2, 3))], dim=1))
        spatial.append(torch.nn.functional.adaptive_avg_pool2d(maps, GRID).flatten(1))
    return torch.cat(whole).numpy(), torch.cat(spatial).numpy()


def standardised(features: Both, by: Both) -> Both:
    """Subtract the mean over real crops and divide by their standard deviation, so that each has equal weight.

    Args:
        features: From a feature network.
        by: The same for real crops.
    """
    a, b = ((f - r.mean(0)) / np.maximum(r.std(0), 1e-6) for f, r in zip(features, by, strict=True))
    return a, b
