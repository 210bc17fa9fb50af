"""Class maps that a diffusion model is conditioned on."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from cytoseg.classes import IGNORE
from cytoseg.diffusion.network_output import split_output

DrawMaps = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From (N,) crop numbers and the (N, 3, H, W) crops to the crops to train on and their maps' channels (N, K + 1, H, W).

Both are functions of the number and the crop alone.
"""


def one_hot_map(ids: Tensor, classes: int) -> Tensor:
    """Convert class maps to input of the network: one channel for each class, and a last one for unknown.

    Args:
        ids: (N, H, W) int64 ids, 255 for unknown.
        classes: K.

    Returns:
        (N, K + 1, H, W) float32, 1 in one channel of each pixel and 0 in the others.
    """
    known = torch.where(ids == IGNORE, classes, ids)
    return functional.one_hot(known, classes + 1).permute(0, 3, 1, 2).float()


class MapConditioned(nn.Module):
    """A conditional noise predictor for given class maps or small images, in the form that samplers take.

    Args:
        unet: The noise predictor, conditioned on class maps.
        class_map: (N, K + 1, H, W) from ``one_hot_map`` or ``upsampling.upsampling_input``.
        scale: How closely the map is followed: 1 draws from the model; more extrapolates from a prediction without a
            map to one with it (Ho and Salimans, Classifier-Free Diffusion Guidance, 2021), at twice the cost.
    """

    def __init__(self, unet: nn.Module, class_map: Tensor, *, scale: float) -> None:
        super().__init__()
        self._unet, self._class_map, self._scale = unet, class_map, scale
        self.space = getattr(unet, "space", None)

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        """Predict from (N, C, H, W) and (N,) timesteps."""
        output = cast(Tensor, self._unet(x, times, None, self._class_map))
        if self._scale == 1.0:
            return output
        mean, _ = split_output(output, channels=x.shape[1])
        free, _ = split_output(cast(Tensor, self._unet(x, times)), channels=x.shape[1])
        further = free + self._scale * (mean - free)
        return torch.cat([further, output[:, x.shape[1] :]], dim=1)
