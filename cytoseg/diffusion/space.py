"""The space in which a diffusion model works: pixels, or latents of an autoencoder."""

import math
from collections.abc import Mapping
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from cytoseg.diffusion.autoencoder import build_autoencoder
from cytoseg.diffusion.channels import as_channels
from cytoseg.diffusion.space_settings import LATENT_CHANNELS, SpaceShape
from cytoseg.errors import CheckpointError

_UNKNOWN_LIMIT = 1e4
_MARGIN = 1.5
"""Latents of a sample may be this much larger than any of the crops that the scale was measured on."""
_TOGETHER = 4
"""Crops that are encoded at once to measure the scale."""


class Space(Protocol):
    """Where noise is added and removed."""

    @property
    def channels(self) -> int:
        """Channels of what is diffused."""
        ...

    @property
    def factor(self) -> int:
        """Pixels that one value stands for in each direction."""
        ...

    @property
    def limit(self) -> float:
        """Largest absolute value of an image in this space, to which samplers clip x0."""
        ...

    def encode(self, pictures: Tensor) -> Tensor:
        """Map (N, 1 or 3, H, W) images in [-1, 1] to (N, channels, H / factor, W / factor), with its gradient."""
        ...

    def decode(self, values: Tensor) -> Tensor:
        """Map (N, channels, h, w) back to images in [-1, 1], (N, C, h factor, w factor), with its gradient."""
        ...


class PixelSpace(nn.Module):
    """The identity, except that colours become grey for a network of one channel.

    Args:
        channels: ``diffusion.channels``.
    """

    factor, limit = 1, 1.0

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def encode(self, pictures: Tensor) -> Tensor:
        """Return the images, grey where the network takes one channel."""
        return as_channels(pictures, 1) if self.channels == 1 else pictures

    def decode(self, values: Tensor) -> Tensor:
        """Return the images."""
        return values


class LatentSpace(nn.Module):
    """Latents of an autoencoder, scaled to a standard deviation of 1.

    A quantising autoencoder is diffused before it quantises; its decoder quantises.

    Args:
        shape: Kind, factor and width.
        channels: ``diffusion.channels``.

    Source: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, CVPR 2022.
    """

    channels = LATENT_CHANNELS

    def __init__(self, shape: SpaceShape, channels: int) -> None:
        super().__init__()
        self.shape, self.factor, self.picture_channels = shape, shape.factor, channels
        self.network = build_autoencoder(shape, channels)
        self.register_buffer("shift", torch.zeros(LATENT_CHANNELS))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("largest", torch.full((), _UNKNOWN_LIMIT))

    @property
    def limit(self) -> float:
        """Largest absolute value that a latent of a sample may have."""
        return float(cast(Tensor, self.largest))

    def encode(self, pictures: Tensor) -> Tensor:
        """Encode images; for kl, to the mean of the distribution."""
        shift = cast(Tensor, self.shift)[:, None, None]
        latents: Tensor = (self.distribution(pictures)[0] - shift) * cast(Tensor, self.scale)
        return latents

    def decode(self, values: Tensor) -> Tensor:
        """Decode latents, and clip the images."""
        latents = values / cast(Tensor, self.scale) + cast(Tensor, self.shift)[:, None, None]
        if self.shape.kind == "vq":
            quantiser = cast(Any, self.network).quantizer.quantizer  # its forward would also train it
            nearest = quantiser.embed(quantiser.quantize(latents)[2])
            latents = latents + (nearest - latents).detach()
        return cast(Tensor, cast(Any, self.network).decode(latents)).clamp(-1.0, 1.0)

    def of_space(self, pictures: Tensor) -> Tensor:
        """Return (N, 1 or 3, H, W) images with the channels that the autoencoder takes."""
        return as_channels(pictures, self.picture_channels)

    def distribution(self, pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return mean and deviation, (N, channels, h, w), of the unscaled latents; the latter is None for vq."""
        found = cast(Any, self.network).encode(self.of_space(pictures))
        return (found, None) if self.shape.kind == "vq" else (found[0], found[1])


@torch.no_grad()
def measure_scale(unet: nn.Module, pictures: Tensor) -> None:
    """Set the scale so that latents of images have mean 0 in each channel and a standard deviation of 1.

    Args:
        unet: From ``build_unet``, in a latent space; its space is changed in place.
        pictures: (N, 1 or 3, H, W) in [-1, 1].

    Raises:
        CheckpointError: If all latents are equal, or one is NaN.
    """
    space = cast(LatentSpace, unet.space)
    latents = torch.cat([space.distribution(part)[0] for part in torch.split(pictures, _TOGETHER)])
    shift = latents.mean((0, 2, 3))
    centred = latents - shift[:, None, None]
    deviation = float(centred.std(correction=0))
    if not math.isfinite(deviation) or deviation == 0.0:
        raise CheckpointError(
            f"train-ddpm: the autoencoder's latents have a standard deviation of {deviation}. Train it longer, or "
            "lower space.rate."
        )
    cast(Tensor, space.shift).copy_(shift)
    cast(Tensor, space.scale).fill_(1.0 / deviation)
    cast(Tensor, space.largest).fill_(_MARGIN * float(centred.abs().max()) / deviation)


def build_space(shape: SpaceShape, channels: int) -> nn.Module:
    """Build the space of a network with random weights, which a diffusion training does not change."""
    return LatentSpace(shape, channels).requires_grad_(False) if shape.is_latent else PixelSpace(channels)


def space_of(unet: nn.Module) -> Space:
    """Return the space of a network; one that has none works in RGB pixels."""
    return cast(Space, getattr(unet, "space", None) or PixelSpace(3))


@torch.inference_mode()
def decoded(space: Space, values: Tensor) -> Tensor:
    """Decode samples: (N, C, H, W) images on the CPU, NaN where a value is NaN."""
    pictures = [space.decode(part) for part in torch.split(values, _TOGETHER)]
    return torch.cat(pictures).cpu()


def load_space(unet: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load an autoencoder's weights into the space of a network.

    Args:
        unet: From ``build_unet``, with a latent space of the same shape.
        weights: The autoencoder's, by name.
    """
    own = {name.removeprefix("space."): value for name, value in weights.items() if name.startswith("space.")}
    cast(LatentSpace, unet.space).load_state_dict(own)


def shrink_region(region: Tensor, factor: int) -> Tensor:
    """Mark each value of a space that stands for at least one marked pixel.

    Args:
        region: (H, W) bool; sides are multiples of ``factor``.
        factor: Of the space.
    """
    return functional.max_pool2d(region[None].float(), factor)[0] > 0
