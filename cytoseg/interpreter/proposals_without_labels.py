"""Proposals before any labels, from a base model's mask head."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cytoseg.classes import ClassList
from cytoseg.devices import autocast
from cytoseg.diffusion.pretrained_unet import MULTIPLE_PX, PretrainedUnet
from cytoseg.errors import CheckpointError
from cytoseg.features.extract import pad_to_multiple, to_input
from cytoseg.interpreter.decoder import FLIPS

PROBABLE = 0.7
"""Minimum probability of a proposal: training weights rare classes more, so at .5 nuclei come out too large."""


class MaskHeadProposals:
    """Predicts the classes shared by a backbone's mask head and the recipe.

    Args:
        unet: The backbone with averaged weights.
        classes: The recipe's classes; the fill class is left unmarked.
        device: Where to compute.
        precision: ``no`` (fp32) or ``bf16`` for the network.

    Raises:
        CheckpointError: If the backbone has no mask head, or its mask head has none of the classes.
    """

    def __init__(self, unet: nn.Module, classes: ClassList, *, device: torch.device, precision: str) -> None:
        known: Sequence[str] = getattr(unet, "mask_classes", ())
        self.guessed = tuple(name for name in classes.names if name in known and name != classes.fill)
        if not self.guessed:
            raise CheckpointError(
                f"this diffusion model cannot propose {', '.join(classes.names)}: its labelled sources taught it "
                f"{', '.join(known) or 'nothing'}. Start from a base model (training.init: cytology-base)."
            )
        self._unet, self._device, self._precision = cast(PretrainedUnet, unet).to(device).eval(), device, precision
        self._known, self._classes = tuple(known), classes

    @torch.inference_mode()
    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Predict a crop's classes from the mean over four mirror images.

        Args:
            picture: (H, W, 3) uint8 RGB.

        Returns:
            (H, W) uint8 ids of the recipe; the fill class (or ignore) where no class is probable.
        """
        height, width = picture.shape[:2]
        x = pad_to_multiple(to_input(picture[None]).to(self._device), MULTIPLE_PX)
        with autocast(self._device, self._precision):
            views = [self._unet.masks(x.flip(axes)).float().softmax(1).flip(axes) for axes in FLIPS]
        mean = torch.stack(views).mean(0)[0, :, :height, :width].cpu().numpy()
        class_map = np.full((height, width), self._classes.fill_id, np.uint8)
        for name in self.guessed:
            class_map[mean[self._known.index(name)] > PROBABLE] = self._classes.names.index(name)
        return class_map
