"""A diffusion model and a segmentation that know what they say without training."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoseg.classes import ClassList
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.denoising_error import Denoiser

CLASSES = ClassList(("background", "cell"), ((240, 240, 240), (0, 90, 200)), "background")
NORMAL_GREY = 180


class OfOneColour(nn.Module):
    """Predicts the image of one grey, whatever the noise."""

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(xt, NORMAL_GREY / 127.5 - 1)


def denoiser(*, channels: int = 3) -> Denoiser:
    """A model of slides that are all of ``NORMAL_GREY``."""
    values = {"dim": 8, "dim_mults": (1, 2), "timesteps": 1000, "schedule": "linear", "objective": "pred_x0"}
    return Denoiser(OfOneColour(), Architecture(**values, channels=channels), torch.device("cpu"))  # type: ignore[arg-type] # a mapping of mixed values


class DarkIsCell:
    """Calls dark pixels cells."""

    classes, origin = CLASSES, {"labels": "def"}

    def tiles_at_once(self, side_px: int) -> int:
        """One tile at a time."""
        return 1

    def __call__(self, tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        """Return certain probabilities, and no disagreement."""
        dark = tiles[..., 0] < 100
        return {
            "probabilities": np.stack([~dark, dark], axis=1).astype(np.float32),
            "disagreement": np.zeros(dark.shape, np.float32),
        }
