"""Image filters that know nothing of cells: intensity, edges and texture of a picture at six scales."""

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.feature import multiscale_basic_features
from torch import Tensor

SIGMA_PX = (0.5, 16.0)
"""Finest and coarsest blur of the filters; doubled from one to the other, six in all."""
FILTERS = 72
"""Responses per pixel: three channels, six blurs, four filters."""


def filter_responses(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Filter a crop for intensity, edges and texture at six scales.

    Args:
        picture: (H, W, 3) uint8 RGB.

    Returns:
        (H, W, 72) float32: per channel and scale the blurred intensity, the edge strength and two eigenvalues of the
        Hessian.
    """
    # Real numbers come back in the precision they are given, so 8 bits are scaled here, in single precision.
    scaled = picture.astype(np.float32) / np.float32(255)
    # An edge strength needs two pixels: a picture of one row or column is given a second one like it.
    wide = np.pad(scaled, [(0, int(side == 1)) for side in picture.shape[:2]] + [(0, 0)], mode="edge")
    responses: NDArray[np.float32] = multiscale_basic_features(
        wide, intensity=True, edges=True, texture=True, sigma_min=SIGMA_PX[0], sigma_max=SIGMA_PX[1], channel_axis=-1
    )
    return responses[: picture.shape[0], : picture.shape[1]]


def filter_maps(pictures: Tensor) -> Tensor:
    """Filter several pictures for the feature stack.

    Args:
        pictures: (N, 3, H, W) in [-1, 1], on any device; rounded to the 256 grey levels they were read with.

    Returns:
        (N, 72, H, W) float32 on the same device.
    """
    bytes_ = ((pictures + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    maps = np.stack([filter_responses(picture) for picture in bytes_])
    return torch.from_numpy(maps).permute(0, 3, 1, 2).contiguous().to(pictures.device)
