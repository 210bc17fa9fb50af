"""The network that ``train-autoencoder`` trains: a latent space and its discriminator."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from cytoseg.diffusion.autoencoder import (
    ADVERSARIAL_WEIGHT,
    DETAIL_WEIGHT,
    KL_WEIGHT,
    build_discriminator,
    detail_losses,
    discriminator_loss,
    kl_losses,
)
from cytoseg.diffusion.space import LatentSpace
from cytoseg.diffusion.space_settings import SpaceShape


class AutoencoderTraining(nn.Module):
    """A latent space with the discriminator that its images should deceive.

    Args:
        shape: Kind, factor and width.
        channels: ``diffusion.channels``.
    """

    def __init__(self, shape: SpaceShape, channels: int) -> None:
        super().__init__()
        self.space = LatentSpace(shape, channels)
        self.discriminator = build_discriminator(shape, channels)

    def forward(self, pictures: Tensor, eps: Tensor, *, judged: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the losses of crops.

        Args:
            pictures: (N, 1 or 3, H, W) in [-1, 1].
            eps: Standard normal of the latents' shape, for kl.
            judged: Whether the discriminator takes part.

        Returns:
            The loss to be minimised, the reconstruction's part of it, and the discriminator's, each (N,).
        """
        x = self.space.of_space(pictures)
        seen, restrained = self._reconstructed(x, eps)
        own = detail_losses(seen, x) * DETAIL_WEIGHT + restrained
        if not judged:
            # Zero, but gives every weight a gradient: distributed processes wait for all.
            idle = torch.stack([weights.sum() for weights in self.discriminator.parameters()]).sum() * 0.0
            return own + idle, own, torch.zeros_like(own)
        fooling = discriminator_loss(self.discriminator, seen, wanted=1.0, learns=False)
        real = discriminator_loss(self.discriminator, x, wanted=1.0, learns=True)
        made = discriminator_loss(self.discriminator, seen.detach(), wanted=0.0, learns=True)
        telling = 0.5 * (real + made)
        return own + ADVERSARIAL_WEIGHT * fooling + telling, own, telling

    def _reconstructed(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Encode and decode; return the images, and the loss that bounds the latents, (N,) or a scalar."""
        if self.space.shape.kind == "vq":
            return cast(tuple[Tensor, Tensor], self.space.network(x))
        mean, deviation = self.space.distribution(x)
        assert deviation is not None, "of kl"
        seen = cast(Tensor, cast(Any, self.space.network).decode(mean + deviation * eps))
        return seen, kl_losses(mean, deviation) * (KL_WEIGHT / x[0].numel())
