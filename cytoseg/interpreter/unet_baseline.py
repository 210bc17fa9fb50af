"""Baseline: a small U-Net trained from scratch on the labelled crops."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets import UNet
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoseg.classes import IGNORE
from cytoseg.devices import autocast
from cytoseg.features.extract import to_input
from cytoseg.interpreter.part_draw import PartDraw, class_weights, part_px
from cytoseg.seeds import seed_for

CHANNELS = (24, 48, 96, 192)
CROP_PX = 128
BATCH = 8
RATE = 2e-3
STEPS = 1200
_MULTIPLE_PX = 8
"""The network downsamples three times."""


@dataclass(frozen=True)
class ScratchUnet:
    """A fitted U-Net.

    Attributes:
        network: The network in evaluation mode.
        device: Device of the network.
        unseen: Ids of classes without training pixels; never predicted.
    """

    network: nn.Module
    device: torch.device
    unseen: tuple[int, ...] = ()

    @torch.inference_mode()
    def predict(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Classify each pixel of a crop.

        Args:
            picture: (H, W, 3) uint8 RGB.

        Returns:
            (H, W) uint8 class map.
        """
        height, width = picture.shape[:2]
        x = to_input(picture[None]).to(self.device)
        x = F.pad(x, (0, _missing(width), 0, _missing(height)), mode="replicate")
        scores: Tensor = self.network(x)
        scores[:, list(self.unseen)] = -torch.inf
        ids: NDArray[np.uint8] = scores[0, :, :height, :width].argmax(0).to(torch.uint8).cpu().numpy()
        return ids


def fit_scratch(
    pictures: Sequence[NDArray[np.uint8]],
    label_maps: Sequence[NDArray[np.uint8]],
    *,
    classes: int,
    seed: int,
    device: torch.device,
    precision: str = "no",
    steps: int = STEPS,
) -> ScratchUnet:
    """Train MONAI's residual U-Net on augmented random parts of the crops.

    Classes are weighted by one over the square root of their fraction, so that glass does not dominate; ignored pixels
    do not count. Adam with cosine decay of the learning rate.

    Args:
        pictures: Crops, each (H, W, 3) uint8 RGB.
        label_maps: One per crop, (H, W) uint8 ids, 255 for ignore.
        classes: K.
        seed: Seed of initial weights and random parts.
        device: Where to train.
        precision: ``no`` (fp32) or ``bf16`` in training.
        steps: Optimiser updates of 8 parts of ``scratch_px``.

    Returns:
        The fitted U-Net, the same for the same seed.

    Raises:
        LabelError: If no pixel of any crop is labelled.

    Source: Kerfoot et al., Left-ventricle quantification using residual U-Net, STACOM 2018.
    """
    weights = class_weights(label_maps, classes).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_for(seed, 0, what="scratch"))
        network: nn.Module = UNet(2, 3, classes, CHANNELS, (2,) * (len(CHANNELS) - 1), num_res_units=2)
    network.to(device).train()
    draw = PartDraw(pictures, label_maps, size_px=scratch_px(pictures), batch=BATCH, blurred=0.0, seed=seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        x, target = (part.to(device) for part in draw(step))
        if not (target != IGNORE).any():
            continue  # no labelled pixel in these parts
        with autocast(device, precision):
            scores = network(x)
        loss = F.cross_entropy(scores.float(), target, weight=weights, ignore_index=IGNORE)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch's annotation is missing
        optimiser.step()
    return ScratchUnet(network.eval(), device, unseen=tuple(torch.nonzero(weights == 0)[:, 0].tolist()))


def scratch_px(pictures: Sequence[NDArray[np.uint8]]) -> int:
    """Return the side of the parts: 128 px, or what almost all crops hold, see ``part_px``."""
    return part_px(CROP_PX, (picture.shape[:2] for picture in pictures))


def _missing(side_px: int) -> int:
    """Compute the padding to the next side that is divisible and leaves more than one pixel at the bottom."""
    return max(2 * _MULTIPLE_PX, side_px + -side_px % _MULTIPLE_PX) - side_px
