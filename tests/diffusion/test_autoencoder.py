from typing import Any, cast

import torch

from cytoseg.diffusion.autoencoder import (
    build_autoencoder,
    build_discriminator,
    detail_losses,
    discriminator_loss,
    kl_losses,
)
from cytoseg.diffusion.space_settings import SpaceShape


def test_the_divergence_is_that_of_two_gaussians() -> None:
    mean, deviation = torch.full((1, 2, 1, 1), 3.0), torch.full((1, 2, 1, 1), 2.0)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(3.0, 2.0), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(kl_losses(mean, deviation), 2 * expected[None])
    assert kl_losses(torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2)).tolist() == [0.0]


def test_details_count_beside_values() -> None:
    flat, checks = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    torch.testing.assert_close(detail_losses(flat, flat + 0.3), torch.tensor([0.3]))
    checks[..., ::2, ::2], checks[..., 1::2, 1::2] = 0.3, 0.3
    checks[..., ::2, 1::2], checks[..., 1::2, ::2] = -0.3, -0.3
    # Values .3 and neighbours .6 apart in both directions at the finest scale only, which is a third of the mean.
    torch.testing.assert_close(detail_losses(flat, checks), torch.tensor([0.5]))


def test_a_discriminator_learns_only_where_it_is_to() -> None:
    discriminator = build_discriminator(SpaceShape("kl", 2, 8), 3)
    x = torch.rand(2, 3, 16, 16).requires_grad_()
    discriminator_loss(discriminator, x, wanted=1.0, learns=False).sum().backward()
    assert x.grad is not None
    assert all(weights.grad is None for weights in discriminator.parameters())
    discriminator_loss(discriminator, x.detach(), wanted=0.0, learns=True).sum().backward()
    assert any(weights.grad is not None for weights in discriminator.parameters())


def test_no_code_is_lost_before_it_was_ever_used() -> None:
    network = cast(Any, build_autoencoder(SpaceShape("vq", 2, 8), 3)).train()
    codes = network.quantizer.quantizer.embedding.weight
    before = codes.clone()
    network(torch.rand(2, 3, 16, 16) * 2 - 1)
    assert float((codes - before).abs().max()) < 10.0
