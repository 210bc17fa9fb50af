"""Generic image filters: intensity, edges and texture at six scales.

Equal to ``skimage.feature.multiscale_basic_features`` within 1e-6 in a third of its time: blurs are products with
banded matrices, and derivatives are differences of an image extrapolated beyond its border.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.features.settings import PER_SCALE, SIGMAS_PX

_TRUNCATE = 4.0
"""Truncation of the blur in standard deviations."""
REACH_PX = int(_TRUNCATE * max(SIGMAS_PX) + 0.5) + 2
"""How far a response depends on the picture: the widest blur and two differences."""
_BLOCK_PX = 64
"""Pixels of a row blurred by one product: fewer multiply fewer zeros, more use the processor better."""
_TOGETHER_PX = 2**17
"""Pixels differentiated at once: more exceed the cache, fewer are dominated by torch's overhead."""


def filter_responses(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Filter a crop for intensity, edges and texture at six scales.

    Args:
        picture: (H, W, 3) uint8 RGB.

    Returns:
        (H, W, 72) float32: per channel and scale the blurred intensity, the edge strength and two eigenvalues of the
        Hessian.
    """
    channels = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
    responses: NDArray[np.float32] = _responses(channels[None].float() / 255)[0].permute(1, 2, 0).contiguous().numpy()
    return responses


def filter_maps(pictures: Tensor) -> Tensor:
    """Filter several images for the feature stack.

    Args:
        pictures: (N, C, H, W) in [-1, 1], on any device; rounded to the original 256 grey levels.

    Returns:
        (N, 24 C, H, W) float32 on the same device.
    """
    scaled = ((pictures.float() + 1.0) * 127.5).round_().clamp_(0, 255).div_(255)
    return _responses(scaled)


def _responses(pictures: Tensor) -> Tensor:
    """Filter (N, C, H, W) in [0, 1]; return (N, 24 C, H, W)."""
    count, channels, height, width = pictures.shape
    # A gradient needs two pixels: an image of one row or column is repeated.
    wide = F.pad(pictures, (0, int(width == 1), 0, int(height == 1)), mode="replicate")
    maps = wide.new_empty(count, channels, len(SIGMAS_PX), PER_SCALE, *wide.shape[-2:])
    # One by one: a result must not depend on the batch, and products of other sizes round differently.
    for picture, found in zip(wide, maps, strict=True):
        for scale, sigma_px in enumerate(SIGMAS_PX):
            _blur(picture, sigma_px, out=found[:, scale, 0])
        for some in found.flatten(0, 1).split(max(1, _TOGETHER_PX // picture[0].numel())):
            _edges(some[:, 0], out=some[:, 1])
            _texture(some[:, 0], larger=some[:, 2], smaller=some[:, 3])
    return maps.flatten(1, 3)[..., :height, :width].contiguous()


def _blur(picture: Tensor, sigma_px: float, *, out: Tensor) -> None:
    """Blur (C, H, W) into ``out`` with nearest-pixel padding."""
    band = _band(sigma_px).to(picture.device)
    reach = band.shape[0] - _BLOCK_PX  # radius of the blur, both sides together
    channels, height, width = picture.shape
    padded = F.pad(picture[None], (reach // 2, reach // 2, 0, 0), mode="replicate").view(channels * height, -1)
    rows = picture.new_empty(channels * height, width)
    for start in range(0, width, _BLOCK_PX):
        size = min(_BLOCK_PX, width - start)
        torch.mm(
            padded[:, start : start + size + reach], band[: size + reach, :size], out=rows[:, start : start + size]
        )
    below = F.pad(rows.view(1, channels, height, width), (0, 0, reach // 2, reach // 2), mode="replicate")[0]
    for start in range(0, height, _BLOCK_PX):
        size = min(_BLOCK_PX, height - start)
        for channel in range(channels):
            weights, seen = band[: size + reach, :size].T, below[channel, start : start + size + reach]
            torch.mm(weights, seen, out=out[channel, start : start + size])


@lru_cache(maxsize=len(SIGMAS_PX))
def _band(sigma_px: float) -> Tensor:
    """Return the banded matrix that blurs 64 pixels of a row from these and their neighbours."""
    radius = int(_TRUNCATE * sigma_px + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_px) ** 2)
    band = np.zeros((_BLOCK_PX + 2 * radius, _BLOCK_PX), np.float32)
    for pixel in range(_BLOCK_PX):
        band[pixel : pixel + len(weights), pixel] = weights / weights.sum()
    return torch.from_numpy(band)


def _edges(blurred: Tensor, *, out: Tensor) -> None:
    """Measure the edge strength of (P, H, W) with Sobel filters and nearest-pixel padding."""
    padded = F.pad(blurred[None], (1, 1, 1, 1), mode="replicate")[0]
    across = padded[:, :, 2:] - padded[:, :, :-2]
    along = (padded[:, :, 2:] + padded[:, :, :-2]).add_(padded[:, :, 1:-1], alpha=2)
    columns = (across[:, 2:] + across[:, :-2]).add_(across[:, 1:-1], alpha=2)
    rows = along[:, 2:] - along[:, :-2]
    # Sobel weights are quarters, and the strength is the root mean square of both directions.
    torch.sqrt(columns.square_().addcmul_(rows, rows), out=out).mul_(1 / (4 * 2**0.5))


def _texture(blurred: Tensor, *, larger: Tensor, smaller: Tensor) -> None:
    """Compute the eigenvalues of the Hessian of (P, H, W), the gradient of the gradient as in ``np.gradient``."""
    wide = _continued(_continued(blurred).transpose(1, 2)).transpose(1, 2)
    rows = (wide[:, 4:, 2:-2] + wide[:, :-4, 2:-2]).sub_(blurred, alpha=2)  # 4 times the derivatives
    columns = (wide[:, 2:-2, 4:] + wide[:, 2:-2, :-4]).sub_(blurred, alpha=2)
    across = wide[:, 1:-1, 3:-1] - wide[:, 1:-1, 1:-3]
    mixed = across[:, 2:] - across[:, :-2]
    middle = (rows + columns).mul_(1 / 8)
    apart = rows.sub_(columns).square_().addcmul_(mixed, mixed, value=4).sqrt_().mul_(1 / 8)
    torch.add(middle, apart, out=larger)
    torch.sub(middle, apart, out=smaller)


def _continued(picture: Tensor) -> Tensor:
    """Extrapolate (P, H, W) by two rows above and below, so that central differences match at the border.

    ``np.gradient`` takes one-sided differences at the border. They equal central ones if the first row beyond it
    continues the last two linearly; and so does the gradient of that gradient with the second row chosen as here.
    """
    count, height, width = picture.shape
    wide = picture.new_empty(count, height + 4, width)
    wide[:, 2:-2] = picture
    wide[:, 1] = 2 * wide[:, 2] - wide[:, 3]
    wide[:, -2] = 2 * wide[:, -3] - wide[:, -4]
    wide[:, 0] = 4 * (wide[:, 2] - wide[:, 3]) + wide[:, 4]
    wide[:, -1] = 4 * (wide[:, -3] - wide[:, -4]) + wide[:, -5]
    return wide
