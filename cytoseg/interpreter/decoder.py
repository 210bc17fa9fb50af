"""The decoder as interpreter: the diffusion model's own U-Net with a class head in place of its last convolution."""

import copy
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from cytoseg.devices import generator_for
from cytoseg.diffusion.architecture import Architecture
from cytoseg.features.extract import pad_to_multiple

_NEVER = -1e4
"""A score that leaves nothing of a class's probability."""
FLIPS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))
"""The axes of (N, C, H, W) that each view of a picture is mirrored along."""


class Decoder(nn.Module):
    """A noise predictor that gives class scores; its time input is 0, for pictures without noise.

    Args:
        unet: As ``build_unet`` makes it, with the weights to start from; copied.
        architecture: Its architecture.
        classes: K.
        seed: Of the head's first weights.
        names: Of the classes; where the network has a mask head for all of them, the head starts from its weights.
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
        self.unet.final_conv = nn.Identity()

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
        x = pad_to_multiple(pictures, self.multiple_px).contiguous(memory_format=torch.channels_last)
        scores: Tensor = self.head(self.unet(x, torch.zeros(len(x), dtype=torch.int64, device=x.device)))
        return scores[:, :, :height, :width].float()

    @torch.no_grad()
    def undo_weights(self, weights: Tensor) -> None:
        """Take back what weighing classes in the loss did to their probabilities.

        Args:
            weights: (K,) positive; the scores were trained with.

        Source: Saerens et al., Adjusting the outputs of a classifier to new a priori probabilities, 2002.
        """
        cast(Tensor, self.head.bias).sub_(weights.log())

    @torch.no_grad()
    def rule_out(self, classes: Sequence[int]) -> None:
        """Let some classes never be predicted: those that no label has shown."""
        self.head.weight[list(classes)] = 0.0
        cast(Tensor, self.head.bias)[list(classes)] = _NEVER


@torch.inference_mode()
def view_probabilities(decoder: Decoder, pictures: Tensor, *, precision: str) -> Tensor:
    """Compute class probabilities of a picture as it is and mirrored three ways, each mirrored back.

    The views vote as the members of an ensemble do, and where they disagree the network is unsure.

    Args:
        decoder: In evaluation mode, on the device of the pictures.
        pictures: (N, 3, H, W) float32 in [-1, 1], any size.
        precision: ``no`` (fp32) or ``bf16``, of the network's arithmetic.

    Returns:
        (4, N, K, H, W) float32.
    """
    views = []
    for axes in FLIPS:
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=precision == "bf16"):
            scores = decoder(pictures.flip(axes))
        views.append(scores.softmax(1).flip(axes))
    return torch.stack(views)
