"""The autoencoder of a latent space, with its discriminator and its losses."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from cytoseg.diffusion.space_settings import LATENT_CHANNELS, SpaceShape

KL_WEIGHT = 1e-6
"""Weight of the divergence from a standard normal; both losses are summed over an image (Rombach et al. 2022)."""
DETAIL_WEIGHT = 1.0
DETAIL_SCALES = 3
ADVERSARIAL_WEIGHT = 0.01
CODES = 1024
_CODE_DECAY = 0.99


def build_autoencoder(shape: SpaceShape, channels: int) -> nn.Module:
    """Build MONAI's AutoencoderKL or VQVAE, without attention, so that adjacent tiles of a slide agree."""
    from monai.networks.nets import VQVAE, AutoencoderKL  # a second to load, and only a latent space needs it

    halvings = shape.factor.bit_length() - 1
    if shape.kind == "vq":
        widths = tuple(shape.dim * 2**i for i in range(1, halvings + 1))
        network = VQVAE(
            2,
            channels,
            channels,
            channels=widths,
            num_res_layers=2,
            num_res_channels=widths,
            downsample_parameters=((2, 4, 1, 1),) * halvings,
            upsample_parameters=((2, 4, 1, 1, 0),) * halvings,
            num_embeddings=CODES,
            embedding_dim=LATENT_CHANNELS,
            decay=_CODE_DECAY,
        )
        # MONAI starts the use counts of codes at 0, which puts unused codes out of reach permanently.
        cast(Any, network).quantizer.quantizer.ema_cluster_size.fill_(1.0)
        return cast(nn.Module, network)
    widths = tuple(shape.dim * 2**i for i in range(halvings + 1))
    return cast(
        nn.Module,
        AutoencoderKL(
            2,
            channels,
            channels,
            num_res_blocks=1,
            channels=widths,
            attention_levels=(False,) * len(widths),
            latent_channels=LATENT_CHANNELS,
            norm_num_groups=8,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        ),
    )


def build_discriminator(shape: SpaceShape, channels: int) -> nn.Module:
    """Build MONAI's PatchDiscriminator; it normalises each crop separately, because batches are small."""
    from monai.networks.nets import PatchDiscriminator  # as above

    return cast(nn.Module, PatchDiscriminator(2, shape.dim, channels, num_layers_d=2, norm="INSTANCE"))


def detail_losses(pictures: Tensor, others: Tensor) -> Tensor:
    """Compare two sets of images at several scales: their values and their differences of neighbours.

    It replaces a perceptual loss, whose network would have to be downloaded.

    Args:
        pictures: (N, C, H, W).
        others: (N, C, H, W).

    Returns:
        (N,) mean absolute differences, averaged over the scales.
    """
    apart, scales = pictures - others, []
    for _ in range(DETAIL_SCALES):
        scales.append(_absolute(apart) + _absolute(apart.diff(dim=2)) + _absolute(apart.diff(dim=3)))
        apart = functional.avg_pool2d(apart, 2)
    return torch.stack(scales).mean(0)


def kl_losses(mean: Tensor, deviation: Tensor) -> Tensor:
    """Compute the divergence of N(mean, deviation^2) from N(0, 1), summed over each of N latents: (N,)."""
    nats = 0.5 * (mean.square() + deviation.square() - 2.0 * deviation.log() - 1.0)
    return nats.flatten(1).sum(1)


def discriminator_loss(discriminator: nn.Module, pictures: Tensor, *, wanted: float, learns: bool) -> Tensor:
    """Compute the error of a discriminator's answer.

    Args:
        discriminator: From ``build_discriminator``.
        pictures: (N, C, H, W) in [-1, 1].
        wanted: The right answer: 1 for real, 0 for generated.
        learns: Whether the gradient reaches its weights.

    Returns:
        (N,) squared errors.

    Source: Mao et al., Least Squares Generative Adversarial Networks, ICCV 2017.
    """
    named = discriminator.named_parameters()
    weights: dict[str, Tensor] = {name: value if learns else value.detach() for name, value in named}
    answers: Tensor = torch.func.functional_call(discriminator, weights, (pictures,))[-1]
    return (answers - wanted).square().flatten(1).mean(1)


def _absolute(values: Tensor) -> Tensor:
    return values.abs().flatten(1).mean(1)
