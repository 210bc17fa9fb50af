import pytest
import torch
from torch import Tensor

from cytoseg.diffusion.architecture import Architecture, tap_names, tap_shapes
from cytoseg.diffusion.pretrained_unet import PixelNorm, PretrainedUnet
from cytoseg.diffusion.unet import build_unet, run_to_taps, start_from_imagenet, tapped

SMALL = Architecture(
    dim=8, dim_mults=(1, 2, 3), timesteps=10, schedule="cosine", backbone="pretrained", mask_classes=("glass", "cell")
)


@pytest.fixture(scope="module")
def unet() -> PretrainedUnet:
    unet = build_unet(SMALL, seed=1)
    assert isinstance(unet, PretrainedUnet)
    start_from_imagenet(unet)
    return unet.eval()


def _pictures(count: int, side: int = 16) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_architecture_round_trip_and_widths() -> None:
    assert Architecture.from_json(SMALL.as_json()) == SMALL
    assert (SMALL.widths, SMALL.finest_channels, SMALL.multiple_px) == ((8, 16, 24), 8, 8)
    before = SMALL.as_json()
    del before["mask_classes"]  # as checkpoints of before say it
    assert Architecture.from_json(before).mask_classes == ()


def test_taps_have_the_documented_shapes(unet: PretrainedUnet) -> None:
    names = tap_names(SMALL)
    assert names == tuple(f"block{i}.{part}" for i in range(3) for part in ("block1", "block2"))
    with torch.inference_mode(), tapped(unet, names) as seen:
        unet(_pictures(1, 24), torch.zeros(1, dtype=torch.int64))
    for name, (channels, downsample) in zip(names, tap_shapes(SMALL, names), strict=True):
        assert seen[name].shape == (1, channels, 24 // downsample, 24 // downsample)


def test_the_network_ends_at_the_last_tap(unet: PretrainedUnet) -> None:
    ran: list[str] = []
    handles = [
        module.register_forward_hook(lambda _m, _i, _o, name=name: ran.append(name))
        for name, module in unet.named_modules()
    ]
    with torch.inference_mode():
        seen = run_to_taps(unet, ["block1.block2", "block0.block1"], _pictures(1), torch.zeros(1, dtype=torch.int64))
    for handle in handles:
        handle.remove()
    assert set(seen) == {"block1.block2", "block0.block1"}
    assert "ups.1.block1" in ran
    assert "ups.2.block1.conv" not in ran


def test_one_pass_for_both_heads_equals_two(unet: PretrainedUnet) -> None:
    noisy, labelled, t = _pictures(2), _pictures(3).flip(3), torch.tensor([4, 9])
    with torch.inference_mode():
        noise, scores = unet(noisy, t, None, labelled)
        torch.testing.assert_close(noise, unet(noisy, t), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(scores, unet.masks(labelled), rtol=1e-4, atol=1e-5)
        none, alone = unet(noisy[:0], t[:0], None, labelled)
    assert none.shape == (0, 3, 16, 16)
    torch.testing.assert_close(alone, scores, rtol=1e-4, atol=1e-5)


def test_the_timestep_matters_after_training(unet: PretrainedUnet) -> None:
    fresh = build_unet(SMALL, seed=1)
    assert isinstance(fresh, PretrainedUnet)
    torch.nn.init.ones_(fresh.ups[2].get_submodule("block2").time.bias)  # type: ignore[arg-type, union-attr] # a tensor
    torch.nn.init.normal_(fresh.ups[2].get_submodule("block2").time.weight)  # type: ignore[arg-type, union-attr] # likewise
    with torch.inference_mode():
        early, late = (fresh(_pictures(1), torch.tensor([t])) for t in (0, 9))
    assert not torch.allclose(early, late)


def test_a_pixel_is_normalised_by_itself() -> None:
    norm, x = PixelNorm(4), torch.randn(1, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(norm(x)[:, :, :2, :3], norm(x[:, :, :2, :3]))
    assert norm(x)[0, :, 1, 1].mean().item() == pytest.approx(0, abs=1e-6)


def test_what_lies_far_away_does_not_matter(unet: PretrainedUnet) -> None:
    wide = _pictures(1, 256)
    other = wide.clone()
    other[:, :, :, 200:] = 1.0
    with torch.inference_mode():
        a, b = (unet.masks(x)[:, :, :, :64] for x in (wide, other))
    torch.testing.assert_close(a, b)
