"""Small images that a diffusion model enlarges."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cytoseg.diffusion.channels import as_channels
from cytoseg.seeds import generator_for

MAX_NOISE = 0.3
"""Largest standard deviation of the noise on small images in training."""
UNKNOWN_SHARE = 0.1
"""Share of crops without their small image, so that the network also works without one."""


def shrink(pictures: Tensor, factor: int) -> Tensor:
    """Average squares of pixels, as a scanner with larger pixels does: (N, C, H, W) to (N, C, H / f, W / f)."""
    return functional.avg_pool2d(pictures, factor)


def upsampling_input(small: Tensor, factor: int, *, noise: Tensor, deviations: Tensor) -> Tensor:
    """Convert small images to input of the network: enlarged, with a channel for their noise level.

    Generated images differ slightly from real ones. A network trained on noisy small images, and given their noise
    level, relies less on their details.

    Args:
        small: (N, C, h, w) in [-1, 1].
        factor: How many times they are enlarged, bilinearly.
        noise: (N, C, h, w) standard normal.
        deviations: (N,) standard deviation of each image's noise, 0 to ``MAX_NOISE``.

    Returns:
        (N, C + 1, H, W): the images, and a channel for their noise, at most 0.5; 1 means unknown.

    Source: Ho et al., Cascaded Diffusion Models for High Fidelity Image Generation, 2021, section 4.2.
    """
    spread = deviations.to(small)[:, None, None, None]
    large = functional.interpolate(small + spread * noise.to(small), scale_factor=factor, mode="bilinear")
    return torch.cat([large, (spread / (2 * MAX_NOISE)).expand(-1, 1, *large.shape[2:])], dim=1)


@dataclass(frozen=True)
class UpsamplingInputs:
    """Gives each training crop a small image of itself, as a function of the seed, its number and the crop.

    Attributes:
        factor: How many times smaller.
        channels: C of the network's images.
        seed: Random seed.
    """

    factor: int
    channels: int
    seed: int

    def __call__(self, numbers: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (N, 3, H, W) crops and (N, C + 1, H, W) of ``upsampling_input``."""
        small = shrink(as_channels(x0, self.channels), self.factor)
        noises, deviations, known = [], [], []
        for number in numbers.tolist():
            generator = generator_for(self.seed, number, what="small picture")
            dropped, share = torch.rand(2, generator=generator).tolist()
            noises.append(torch.randn(small.shape[1:], generator=generator))
            deviations.append(MAX_NOISE * share)
            known.append(dropped >= UNKNOWN_SHARE)
        given = upsampling_input(small, self.factor, noise=torch.stack(noises), deviations=torch.tensor(deviations))
        given[~torch.tensor(known)] = torch.cat([torch.zeros(self.channels), torch.ones(1)])[:, None, None]
        return x0, given


def noiseless_input(small: Tensor, factor: int) -> Tensor:
    """Prepare small images without noise, (N, C, h, w) to (N, C + 1, H, W)."""
    return upsampling_input(small, factor, noise=torch.zeros_like(small), deviations=torch.zeros(len(small)))
