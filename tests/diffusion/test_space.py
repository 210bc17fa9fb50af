import copy
from typing import Any, cast

import pytest
import torch

from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.space import LatentSpace, decoded, load_space, measure_scale, shrink_region, space_of
from cytoseg.diffusion.space_settings import SpaceShape
from cytoseg.diffusion.unet import build_network, build_unet
from cytoseg.errors import CheckpointError


def _architecture(kind: Any = "kl", factor: Any = 2, **changes: Any) -> Architecture:
    values: dict[str, Any] = {"dim": 8, "dim_mults": (1, 2), "timesteps": 10, "schedule": "cosine"}
    return Architecture(**values, space=SpaceShape(kind, factor, 8), **changes)


def _pictures(count: int = 3, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_pixels_are_the_identity_and_grey_is_the_mean() -> None:
    x = _pictures()
    space = space_of(build_unet(Architecture(dim=8, dim_mults=(1, 2))))
    assert space.encode(x) is x
    assert space.decode(x) is x
    assert (space.channels, space.factor, space.limit) == (3, 1, 1.0)
    grey = space_of(build_unet(Architecture(dim=8, dim_mults=(1, 2), channels=1)))
    torch.testing.assert_close(grey.encode(x), x.mean(1, keepdim=True))


def test_pixels_add_nothing_to_a_network_or_its_description() -> None:
    architecture = Architecture(dim=8, dim_mults=(1, 2))
    assert not any(name.startswith("space") for name in build_unet(architecture).state_dict())
    assert not {"space", "part"} & set(architecture.as_json())


@pytest.mark.parametrize("kind", ["kl", "vq"])
@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_latents_have_four_channels_and_pictures_come_back_in_range(kind: str, factor: int, channels: int) -> None:
    space = space_of(build_unet(_architecture(kind, factor, channels=channels)).eval())
    latents = space.encode(_pictures())
    assert latents.shape == (3, 4, 16 // factor, 16 // factor)
    back = space.decode(100 * latents)
    assert back.shape == (3, channels, 16, 16)
    assert float(back.abs().max()) <= 1.0


def test_the_scale_is_one_over_the_standard_deviation_and_the_mean_of_each_channel_goes() -> None:
    unet, x = build_unet(_architecture()), _pictures()
    space = cast(LatentSpace, space_of(unet))
    raw = space.distribution(x)[0]
    measure_scale(unet, x)
    centred = raw - raw.mean((0, 2, 3))[:, None, None]
    torch.testing.assert_close(cast(torch.Tensor, space.scale), 1.0 / centred.std(correction=0))
    scaled = space.encode(x)
    torch.testing.assert_close(scaled.std(correction=0), torch.ones(()))
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-5)
    assert space.limit == pytest.approx(1.5 * float(scaled.abs().max()))
    torch.testing.assert_close(space.decode(scaled), cast(Any, space.network).decode(raw).clamp(-1, 1))


def test_latents_without_variance_are_refused() -> None:
    unet = build_unet(_architecture())
    for weights in cast(LatentSpace, space_of(unet)).network.parameters():
        weights.zero_()
    with pytest.raises(CheckpointError, match=r"standard deviation of 0\.0\. Train it longer"):
        measure_scale(unet, _pictures())


def test_vq_rounds_to_the_nearest_code_when_it_decodes_and_learns_nothing_from_it() -> None:
    unet = build_unet(_architecture("vq")).train()
    space = cast(LatentSpace, space_of(unet))
    quantiser = cast(Any, space.network).quantizer.quantizer
    before = copy.deepcopy(space.state_dict())
    code = quantiser.embedding.weight[7][None, :, None, None].expand(1, 4, 8, 8)
    torch.testing.assert_close(space.decode(code + 1e-4), space.decode(code))
    torch.testing.assert_close(space.state_dict(), before, rtol=0, atol=0)


def test_gradients_pass_but_the_weights_do_not_learn() -> None:
    for kind in ("kl", "vq"):
        space = cast(LatentSpace, space_of(build_unet(_architecture(kind))))
        x = _pictures().requires_grad_()
        space.decode(space.encode(x)).square().sum().backward()
        assert x.grad is not None
        assert float(x.grad.abs().max()) > 0
        assert not any(weights.requires_grad for weights in space.parameters())


def test_an_autoencoders_weights_become_the_space_of_a_network() -> None:
    unet, autoencoder = build_unet(_architecture()), build_network(_architecture().of_autoencoder(), seed=5)
    load_space(unet, autoencoder.state_dict())
    x = _pictures()
    torch.testing.assert_close(space_of(unet).encode(x), cast(Any, autoencoder).space.encode(x), rtol=0, atol=0)


def test_many_samples_are_decoded_as_one() -> None:
    space = space_of(build_unet(_architecture()).eval())
    latents = space.encode(_pictures(5))
    torch.testing.assert_close(decoded(space, latents), space.decode(latents), rtol=0, atol=1e-5)


def test_a_latent_of_one_marked_pixel_is_marked() -> None:
    region = torch.zeros(4, 4, dtype=torch.bool)
    region[0, 3] = True
    assert shrink_region(region, 2).tolist() == [[False, True], [False, False]]
    assert torch.equal(shrink_region(region, 1), region)
