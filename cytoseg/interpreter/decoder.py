"""Decoder interpreter: the diffusion U-Net with a class head."""

import copy
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from cytoseg.devices import autocast
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.space import space_of
from cytoseg.diffusion.unet import without_last_convolution
from cytoseg.features.extract import pad_to_multiple
from cytoseg.seeds import generator_for

_NEVER = -1e4
"""A logit that makes a class's probability 0."""
FLIPS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))
"""The axes of (N, C, H, W) along which each view is flipped."""


class Decoder(nn.Module):
    """A noise predictor that outputs class logits; its timestep is 0, for images without noise.

    Args:
        unet: From ``build_unet``, with initial weights; it is copied.
        architecture: Its architecture.
        classes: K.
        seed: Seed of the head's initial weights.
        names: Class names; if the network has a mask head for all of them, the head starts from its weights.
    """

    def __init__(
        self, unet: nn.Module, architecture: Architecture, classes: int, *, seed: int, names: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.classes, self.multiple_px = classes, architecture.multiple_px
        self.unet = copy.deepcopy(unet)
        self.head = nn.Conv2d(architecture.finest_channels, classes, 1)
        with torch.no_grad():
            drawn = torch.randn(self.head.weight.shape, generator=generator_for(seed, 0, what="class head"))
            self.head.weight.copy_(drawn / math.sqrt(architecture.finest_channels))
            cast(Tensor, self.head.bias).zero_()
            known: tuple[str, ...] = getattr(unet, "mask_classes", ())
            if names and set(names) <= set(known):
                self._start_from(cast(nn.Conv2d, unet.mask_head), [known.index(name) for name in names])
        without_last_convolution(self.unet)

    def _start_from(self, mask_head: nn.Conv2d, rows: Sequence[int]) -> None:
        self.head.weight.copy_(mask_head.weight[rows])
        cast(Tensor, self.head.bias).copy_(cast(Tensor, mask_head.bias)[rows])

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute class scores.

        Args:
            pictures: (N, 3, H, W) float32 in [-1, 1], any size.

        Returns:
            (N, K, H, W) float32.
        """
        height, width = pictures.shape[-2:]
        space = space_of(self.unet)
        x = space.encode(pad_to_multiple(pictures, self.multiple_px)).contiguous(memory_format=torch.channels_last)
        scores: Tensor = self.head(self.unet(x, torch.zeros(len(x), dtype=torch.int64, device=x.device)))
        if space.factor > 1:
            scores = functional.interpolate(scores, scale_factor=space.factor, mode="bilinear", align_corners=False)
        return scores[:, :, :height, :width].float()

    @torch.no_grad()
    def undo_weights(self, weights: Tensor) -> None:
        """Correct the probabilities for the class weights of the loss.

        Args:
            weights: (K,) positive weights used in training.

        Source: Saerens et al., Adjusting the outputs of a classifier to new a priori probabilities, 2002.
        """
        cast(Tensor, self.head.bias).sub_(weights.log())

    @torch.no_grad()
    def rule_out(self, classes: Sequence[int]) -> None:
        """Exclude classes without labels from prediction."""
        self.head.weight[list(classes)] = 0.0
        cast(Tensor, self.head.bias)[list(classes)] = _NEVER


@torch.inference_mode()
def view_probabilities(decoder: Decoder, pictures: Tensor, *, precision: str) -> Tensor:
    """Compute class probabilities of an image and its three mirror images, each flipped back.

    The views vote like ensemble members, and their disagreement measures uncertainty.

    Args:
        decoder: In evaluation mode, on the device of the images.
        pictures: (N, 3, H, W) float32 in [-1, 1], any size.
        precision: ``no`` (fp32) or ``bf16`` for the network.

    Returns:
        (4, N, K, H, W) float32.
    """
    views = []
    for axes in FLIPS:
        with autocast(pictures.device, precision):
            scores = decoder(pictures.flip(axes))
        views.append(scores.softmax(1).flip(axes))
    return torch.stack(views)
