"""A baseline without unlabelled slides: a small U-Net trained from scratch on the labelled crops alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandFlipd,
    RandRotate90d,
    RandScaleIntensityFixedMeand,
    RandSpatialCropd,
    RandStdShiftIntensityd,
    SpatialPadd,
)
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoseg.classes import IGNORE
from cytoseg.devices import seed_for
from cytoseg.errors import LabelError
from cytoseg.features.extract import to_input

CHANNELS = (24, 48, 96, 192)
CROP_PX = 128
BATCH = 8
RATE = 2e-3
STEPS = 1200
_MULTIPLE_PX = 8
"""The network halves three times."""
_BOTH = ("picture", "labels")


@dataclass(frozen=True)
class ScratchUnet:
    """A fitted U-Net.

    Attributes:
        network: In evaluation mode.
        device: Where it is.
        unseen: Ids of classes that no training pixel had; they are never predicted.
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
    """Train MONAI's residual U-Net on random parts of the crops, turned, flipped and changed in colour.

    Classes weigh by one over the square root of their share, so that nuclei are not drowned by glass; ignored pixels
    do not count. Adam, with a rate that falls along a cosine.

    Args:
        pictures: Crops, each (H, W, 3) uint8 RGB.
        label_maps: One per crop, (H, W) uint8 ids, 255 for ignore.
        classes: K.
        seed: Decides the first weights and what is drawn.
        device: Where to train.
        precision: ``no`` (fp32) or ``bf16``, of the network's arithmetic in training.
        steps: Optimiser updates of 8 parts of 128 px.

    Returns:
        The fitted U-Net, the same for the same seed.

    Raises:
        LabelError: If no pixel of any crop is labelled.

    Source: Kerfoot et al., Left-ventricle quantification using residual U-Net, STACOM 2018.
    """
    weights = _class_weights(label_maps, classes).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_for(seed, 0, what="scratch"))
        network: nn.Module = UNet(2, 3, classes, CHANNELS, (2,) * (len(CHANNELS) - 1), num_res_units=2)
    network.to(device).train()
    draw = _Draw(pictures, label_maps, seed=seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        x, target = (part.to(device) for part in draw())
        if not (target != IGNORE).any():
            continue  # nothing is labelled in any of these parts
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            scores = network(x)
        loss = F.cross_entropy(scores.float(), target, weight=weights, ignore_index=IGNORE)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch's annotation is missing
        optimiser.step()
    return ScratchUnet(network.eval(), device, unseen=tuple(torch.nonzero(weights == 0)[:, 0].tolist()))


class _Draw:
    """Draws batches of augmented parts."""

    def __init__(
        self, pictures: Sequence[NDArray[np.uint8]], label_maps: Sequence[NDArray[np.uint8]], *, seed: int
    ) -> None:
        self._crops = [
            {"picture": to_input(picture[None])[0], "labels": torch.from_numpy(labels.astype(np.int64))[None]}
            for picture, labels in zip(pictures, label_maps, strict=True)
        ]
        side = (CROP_PX, CROP_PX)
        self._rng = np.random.default_rng(seed_for(seed, 1, what="scratch"))
        self._change = Compose(
            [
                SpatialPadd("picture", side, mode="replicate"),
                SpatialPadd("labels", side, mode="constant", value=IGNORE),
                RandSpatialCropd(_BOTH, side, random_size=False),
                RandFlipd(_BOTH, prob=0.5, spatial_axis=0),
                RandRotate90d(_BOTH, prob=0.75, max_k=3),
                RandAdjustContrastd("picture", prob=0.5, gamma=(0.7, 1.4)),
                RandScaleIntensityFixedMeand("picture", prob=0.5, factors=0.2),
                RandStdShiftIntensityd("picture", prob=0.5, factors=0.3, channel_wise=True),
            ]
        ).set_random_state(seed_for(seed, 2, what="scratch"))

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Give (B, 3, 128, 128) float32 and (B, 128, 128) int64."""
        parts = [self._change(self._crops[number]) for number in self._numbers()]
        x = torch.stack([torch.as_tensor(part["picture"]) for part in parts])
        return x.float(), torch.stack([torch.as_tensor(part["labels"])[0] for part in parts]).long()

    def _numbers(self) -> list[int]:
        drawn: list[int] = self._rng.integers(0, len(self._crops), BATCH).tolist()
        return drawn


def _missing(side_px: int) -> int:
    """Count the pixels up to the next side that can be halved and leaves more than one pixel at the bottom."""
    return max(2 * _MULTIPLE_PX, side_px + -side_px % _MULTIPLE_PX) - side_px


def _class_weights(label_maps: Sequence[NDArray[np.uint8]], classes: int) -> Tensor:
    counts = np.sum([np.bincount(m.ravel(), minlength=256)[:classes] for m in label_maps], axis=0)
    if not counts.sum():
        raise LabelError(
            f"no pixel of the {len(label_maps)} training crops is labelled. Annotate some and import them again."
        )
    shares = counts / counts.sum()
    weights = np.where(shares > 0, 1 / np.sqrt(np.maximum(shares, 1e-9)), 0.0)
    return torch.tensor(weights / weights.max(), dtype=torch.float32)
