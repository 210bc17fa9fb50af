"""U-Net with an ImageNet encoder, a noise head and a mask head."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytoseg.diffusion.architecture import STAGE_CHANNELS
from cytoseg.diffusion.efficientnet import LiteEncoder
from cytoseg.diffusion.quick_convolution import QuickConv2d

LEVELS = 3
"""Up blocks: to 1/4, 1/2 and full resolution."""
ENLARGED = 2
"""Factor of input enlargement, so that the encoder's first stage has the image's resolution."""
MULTIPLE_PX = 8
_TIME_CHANNELS = 128


class PixelNorm(nn.Module):
    """Normalise the channels of each pixel separately, so that a result does not depend on the rest of the tile."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        pixels = x.permute(0, 2, 3, 1)
        return F.layer_norm(pixels, pixels.shape[-1:], self.scale, self.shift).permute(0, 3, 1, 2)


class _Block(nn.Module):
    """Convolution, normalisation, time-dependent scale and shift, SiLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = QuickConv2d(inputs, outputs, 3, padding=1)
        self.norm = PixelNorm(outputs)
        self.time = nn.Linear(_TIME_CHANNELS, 2 * outputs)
        nn.init.zeros_(self.time.weight)
        nn.init.zeros_(self.time.bias)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Apply to (N, C, H, W) and (N, T)."""
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        return F.silu(self.norm(self.conv(x)) * (1 + scale) + shift)


class _Up(nn.Module):
    """Upsample by 2, concatenate the encoder's features, two convolutions."""

    def __init__(self, inputs: int, skipped: int, outputs: int) -> None:
        super().__init__()
        self.block1 = _Block(inputs + skipped, outputs)
        self.block2 = _Block(outputs, outputs)

    def forward(self, x: Tensor, skipped: Tensor, time: Tensor) -> Tensor:
        """Apply to (N, C, h, w), (N, S, 2h, 2w) and (N, T)."""
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        out: Tensor = self.block2(self.block1(torch.cat([x, skipped], dim=1), time), time)
        return out


class PretrainedUnet(nn.Module):
    """The network. With an identity as ``final_conv`` it gives the features of the finest block.

    Args:
        widths: Channels of the up blocks, finest first.
        mask_classes: Names of the K classes of the mask head; empty without a head.
    """

    # Required by lucidrains' GaussianDiffusion.
    channels = 3
    out_dim = 3
    self_condition = False
    random_or_learned_sinusoidal_cond = False

    def __init__(self, widths: Sequence[int], *, mask_classes: Sequence[str] = ()) -> None:
        super().__init__()
        self.mask_classes = tuple(mask_classes)
        self.encoder = LiteEncoder()
        self.time = nn.Sequential(nn.Linear(_TIME_CHANNELS, _TIME_CHANNELS), nn.SiLU())
        skips, inputs, ups = (STAGE_CHANNELS[2], STAGE_CHANNELS[1], STAGE_CHANNELS[0] + 3), STAGE_CHANNELS[4], []
        for skipped, width in zip(skips, reversed(widths), strict=True):
            ups.append(_Up(inputs, skipped, width))
            inputs = width
        self.ups = nn.ModuleList(ups)
        self.final_conv: nn.Module = nn.Conv2d(inputs, 3, 1)
        self.mask_head = nn.Conv2d(inputs, len(mask_classes), 1) if mask_classes else None

    def forward(
        self, x: Tensor, t: Tensor, x_self_cond: None = None, labelled: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Predict the noise; in a hybrid training also the masks of labelled images, in the same pass.

        Args:
            x: (N, 3, H, W) noisy images; sides are multiples of 8.
            t: (N,) int64 timesteps.
            x_self_cond: Not used; GaussianDiffusion passes it.
            labelled: (M, 3, H, W) images without noise, or None. One pass for both heads is needed for
                averaging gradients across processes.

        Returns:
            (N, 3, H, W); with ``labelled`` also the (M, K, H, W) scores of the mask head.
        """
        if labelled is None:
            return self._noise(self.finest(x, t))
        assert self.mask_head is not None, "there is no mask head"
        times = torch.cat([t, torch.zeros(len(labelled), dtype=t.dtype, device=t.device)])
        found = self.finest(torch.cat([x, labelled]), times)
        return self._noise(found[: len(x)]), self.mask_head(found[len(x) :])

    def _noise(self, finest: Tensor) -> Tensor:
        out: Tensor = self.final_conv(finest)
        return out

    def masks(self, pictures: Tensor) -> Tensor:
        """Compute the (N, K, H, W) scores of the mask head for (N, 3, H, W) images without noise."""
        assert self.mask_head is not None, "there is no mask head"
        t = torch.zeros(len(pictures), dtype=torch.int64, device=pictures.device)
        out: Tensor = self.mask_head(self.finest(pictures, t))
        return out

    def finest(self, x: Tensor, t: Tensor) -> Tensor:
        """Compute the (N, C, H, W) features of the finest block."""
        large = F.interpolate(x, scale_factor=ENLARGED, mode="bilinear", align_corners=False)
        stages = self.encoder(large)
        time = self.time(_embedded(t, x.dtype))
        found = self.ups[0](stages[4], stages[2], time)
        found = self.ups[1](found, stages[1], time)
        out: Tensor = self.ups[2](found, torch.cat([stages[0], x.to(stages[0].dtype)], dim=1), time)
        return out


def _embedded(t: Tensor, dtype: torch.dtype) -> Tensor:
    """Embed (N,) timesteps as (N, T) sines and cosines."""
    half = _TIME_CHANNELS // 2
    rates = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, device=t.device))
    angles = t[:, None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(dtype)
