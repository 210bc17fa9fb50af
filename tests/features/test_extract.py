import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.architecture import Architecture, tap_names, tap_shapes
from cytoseg.diffusion.unet import build_unet
from cytoseg.errors import CheckpointError
from cytoseg.features.extract import (
    PASSING_BYTES,
    DdpmTaps,
    FeatureExtractor,
    NativeFeatures,
    check_finite,
    gather,
    pad_to_multiple,
    shared_noise,
    to_input,
)
from cytoseg.features.filters import filter_responses
from cytoseg.features.settings import EXTRACTORS, FeatureSettings
from tests.interpreter import oracle

TINY = Architecture(dim=8, dim_mults=(1, 2), timesteps=1000, schedule="linear", objective="pred_noise")
FEW = ("block0.block2", "block0.attention", "block1.upsample")
MakeExtractor = Callable[..., FeatureExtractor]


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    return build_unet(TINY, seed=1).eval()


@pytest.fixture(scope="module")
def make_extractor(unet: nn.Module) -> MakeExtractor:
    """Make an extractor of a few taps at t = 50; keywords replace these."""

    def make(precision: str = "no", device: str = "cpu", **changes: Any) -> FeatureExtractor:
        values: dict[str, Any] = {"taps": FEW, "timesteps": (50,), "scale": 1, "noise_seed": 4}
        settings = FeatureSettings(**(values | changes))
        its_own = unet if device == "cpu" else copy.deepcopy(unet)  # the extractor moves it to the device
        return FeatureExtractor(its_own, TINY, settings, device=torch.device(device), precision=precision)

    return make


def _pictures(number: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(100 * height + width)
    return torch.rand(number, 3, height, width, generator=generator) * 2 - 1


def test_0_becomes_minus_one_and_255_one_and_colours_come_first() -> None:
    picture = np.array([[[[0, 51, 255], [255, 0, 0]]]], np.uint8)
    torch.testing.assert_close(to_input(picture), torch.tensor([[[[-1.0, 1]], [[-0.6, -1]], [[1.0, -1]]]]))
    assert to_input(picture).dtype == torch.float32


def test_padding_repeats_the_last_row_and_column() -> None:
    picture = torch.tensor([[[[1.0, 2, 3]]]])
    expected = torch.tensor([[[[1.0, 2, 3, 3], [1, 2, 3, 3]]]])
    torch.testing.assert_close(pad_to_multiple(picture, 2), expected)
    torch.testing.assert_close(pad_to_multiple(expected, 2), expected)


def test_noise_is_standard_normal_and_decided_by_seed_and_size() -> None:
    noise = shared_noise(4, 64, 65)
    assert noise.shape == (3, 64, 65)
    assert abs(float(noise.mean())) < 0.04
    assert abs(float(noise.std()) - 1) < 0.04
    assert torch.equal(noise, shared_noise(4, 64, 65))
    assert not torch.equal(noise, shared_noise(5, 64, 65))
    assert not torch.equal(noise.ravel(), shared_noise(4, 65, 64).ravel())


def test_the_network_sees_every_picture_and_timestep_with_the_same_noise(
    unet: nn.Module, make_extractor: MakeExtractor
) -> None:
    pictures, calls = _pictures(2, 8, 6), []
    handle = unet.register_forward_pre_hook(lambda _module, inputs: calls.append(inputs))
    make_extractor(timesteps=(50, 400))(pictures)
    handle.remove()
    signal = alpha_bar("linear", 1000)
    ((noisy, times),) = calls
    assert times.tolist() == [50, 50, 400, 400]
    for xt, wanted in zip(noisy.split(2), (50, 400), strict=True):
        eps = (xt - signal[wanted].sqrt() * pictures) / (1 - signal[wanted]).sqrt()
        torch.testing.assert_close(eps.float(), shared_noise(4, 8, 6).expand(2, -1, -1, -1), atol=1e-5, rtol=0)


def test_timesteps_share_a_pass_as_far_as_there_is_room(
    unet: nn.Module, make_extractor: MakeExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    pictures, extractor = _pictures(2, 8, 6), make_extractor(timesteps=(0, 50, 150))
    handle = unet.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[1].tolist()))
    at_once = extractor(pictures).maps
    monkeypatch.setattr("cytoseg.features.extract.TOGETHER_PX", 2 * 2 * 8 * 6)
    in_two = extractor(pictures).maps
    monkeypatch.setattr("cytoseg.features.extract.TOGETHER_PX", 1)
    one_by_one = extractor(pictures).maps
    handle.remove()
    assert seen == [[0, 0, 50, 50, 150, 150], [0, 0, 50, 50], [150, 150], [0, 0], [50, 50], [150, 150]]
    torch.testing.assert_close(at_once, one_by_one, atol=1e-5, rtol=0)
    torch.testing.assert_close(in_two, one_by_one, atol=1e-5, rtol=0)


def test_a_gpu_gives_timesteps_a_pass_each_when_its_memory_is_short(
    make_extractor: MakeExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = make_extractor(timesteps=(0, 50, 150))._extractors[0]
    assert isinstance(extractor, DdpmTaps)
    monkeypatch.setattr(extractor, "device", torch.device("cuda"))
    needed = 2 * PASSING_BYTES * TINY.dim * 64  # for one image of 8 x 8 px, and as much again left free

    def passes(free: int) -> list[tuple[int, ...]]:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free, free))
        return extractor._passes(_pictures(1, 8, 8))

    assert passes(3 * needed) == [(0, 50, 150)]
    assert passes(2 * needed) == [(0, 50), (150,)]
    assert passes(0) == [(0,), (50,), (150,)]


@pytest.mark.parametrize("scale", [1, 2])
def test_maps_have_the_size_and_channels_their_taps_announce(make_extractor: MakeExtractor, scale: int) -> None:
    extractor = make_extractor(taps=tap_names(TINY), timesteps=(50, 150), scale=scale)
    features = extractor(_pictures(1, 7, 10))
    assert (features.size, features.padded) == ((7, 10), (8, 10))
    expected = [(c, 8 * scale // down, 10 * scale // down) for c, down in tap_shapes(TINY, tap_names(TINY))] * 2
    assert [tuple(m.shape[1:]) for m in features.maps] == expected
    assert extractor.channels == [c for c, _, _ in expected]


@pytest.mark.parametrize("scale", [0.25, 0.5])
def test_a_smaller_scale_gives_the_maps_of_means_of_pixels(make_extractor: MakeExtractor, scale: float) -> None:
    extractor = make_extractor(taps=FEW, timesteps=(50,), scale=scale)
    factor = round(1 / scale)
    picture = _pictures(1, 2 * factor * 4, 2 * factor * 3)
    features = extractor(picture)
    assert features.size == features.padded == tuple(picture.shape[-2:])
    means = picture.unflatten(3, (-1, factor)).unflatten(2, (-1, factor)).mean((3, 5))
    torch.testing.assert_close(features.maps, make_extractor(taps=FEW, timesteps=(50,))(means).maps)
    # Images of other sizes are padded to whole pixels of the reduced one, and to the network's multiple.
    assert extractor(_pictures(1, 2 * factor * 4 - 1, 2 * factor * 2 + 1)).padded == tuple(picture.shape[-2:])


@pytest.mark.parametrize("scale", [1, 2])
def test_filters_come_last_once_and_at_the_padded_size(make_extractor: MakeExtractor, scale: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1, 7, 10, 3), np.uint8)
    extractor = make_extractor(timesteps=(50, 150), scale=scale, extractors=("ddpm", "filters"))
    plain = make_extractor(timesteps=(50, 150), scale=scale)(to_input(picture))
    features = extractor(to_input(picture))
    torch.testing.assert_close(features.maps[:-1], plain.maps, atol=0, rtol=0)
    padded = np.concatenate([picture, picture[:, -1:]], axis=1)
    np.testing.assert_array_equal(features.maps[-1][0].permute(1, 2, 0).numpy(), filter_responses(padded[0]))
    assert extractor.channels == [m.shape[1] for m in features.maps]


def test_nothing_behind_the_last_tap_is_computed(unet: nn.Module, make_extractor: MakeExtractor) -> None:
    ran: list[str] = []
    handles = [
        module.register_forward_hook(lambda _m, _i, _o, name=name: ran.append(name))
        for name, module in unet.named_modules()
    ]
    make_extractor(taps=("block0.upsample", "block0.block1"), timesteps=(50, 150))(_pictures(1, 8, 8))
    for handle in handles:
        handle.remove()
    assert ran.count("ups.0.3") == 1
    assert [name for name in ran if name.startswith(("ups.1", "final"))] == []


def test_timesteps_follow_each_other_each_with_its_taps(make_extractor: MakeExtractor) -> None:
    pictures = _pictures(1, 6, 8)
    together = make_extractor(timesteps=(50, 150))(pictures).maps
    apart = make_extractor(timesteps=(50,))(pictures).maps + make_extractor(timesteps=(150,))(pictures).maps
    assert len(together) == 2 * len(FEW)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)
    assert not torch.equal(together[0], together[len(FEW)])


def test_the_same_seed_gives_the_same_features_and_another_does_not(make_extractor: MakeExtractor) -> None:
    pictures = _pictures(1, 8, 8)
    first, again = make_extractor()(pictures).maps, make_extractor()(pictures).maps
    torch.testing.assert_close(first, again, atol=0, rtol=0)
    assert not torch.allclose(first[0], make_extractor(noise_seed=5)(pictures).maps[0], atol=1e-3)


def test_a_batch_equals_one_by_one(make_extractor: MakeExtractor) -> None:
    pictures, extractor = _pictures(3, 9, 6), make_extractor()
    batch = extractor(pictures).maps
    singles = [extractor(picture[None]).maps for picture in pictures]
    for i, native in enumerate(batch):
        torch.testing.assert_close(native, torch.cat([maps[i] for maps in singles]), atol=1e-5, rtol=0)


@pytest.mark.usefixtures("bf16_everywhere")
def test_bf16_is_near_and_comes_back_as_float32(make_extractor: MakeExtractor) -> None:
    pictures = _pictures(1, 8, 8)
    exact, rough = make_extractor()(pictures).maps, make_extractor(precision="bf16")(pictures).maps
    assert {m.dtype for m in rough} == {torch.float32}
    assert not torch.equal(exact[0], rough[0])
    torch.testing.assert_close(rough, exact, atol=0.15, rtol=0.05)


@pytest.mark.gpu
def test_a_gpu_gives_the_features_of_the_cpu(make_extractor: MakeExtractor) -> None:
    pictures = _pictures(2, 24, 18)
    on_cpu, on_gpu = (make_extractor(extractors=EXTRACTORS, device=name) for name in ("cpu", "cuda"))
    for near, exact in zip(on_gpu(pictures).maps, on_cpu(pictures).maps, strict=True):
        assert near.device.type == "cuda"
        # Convolutions on a GPU round to TF32 unless told otherwise: ten bits.
        torch.testing.assert_close(near.cpu(), exact, atol=1e-2, rtol=1e-2)


def test_gather_reads_between_the_values_of_a_coarse_map() -> None:
    """Two values a row over four pixels: pixel 1 lies a quarter of the way from the first to the second."""
    coarse = torch.tensor([[[[0.0, 4], [8, 12]]]])
    features = NativeFeatures([coarse, 10 * torch.ones(1, 2, 4, 4)], (4, 4), (4, 4))
    found = gather(features, [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (2, 2)])
    torch.testing.assert_close(found[:, 0], torch.tensor([0.0, 1, 3, 4, 2, 9]))
    torch.testing.assert_close(found[:, 1:], torch.full((6, 2), 10.0))


def test_gather_of_no_pixels_is_empty() -> None:
    features = NativeFeatures([torch.ones(1, 5, 2, 2)], (4, 4), (4, 4))
    assert gather(features, np.empty((0, 2), np.int64)).shape == (0, 5)


@pytest.mark.parametrize("scale", [0.5, 1, 2])
@pytest.mark.parametrize("timesteps", [(50,), (50, 100, 150)])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10), (9, 5)])
@pytest.mark.parametrize("taps", [FEW, ("block0.block1",)])
def test_gather_equals_upsampling_everything(
    make_extractor: MakeExtractor,
    taps: tuple[str, ...],
    height: int,
    width: int,
    timesteps: tuple[int, ...],
    scale: float,
) -> None:
    features = make_extractor(taps=taps, timesteps=timesteps, scale=scale)(_pictures(2, height, width))
    dense = oracle.upsampled(features.maps, features.padded)[:, :, :height, :width]
    pixels = [(x, y) for y in range(height) for x in range(width)]
    for picture in range(2):
        expected = oracle.pixels_of(dense[picture : picture + 1])
        torch.testing.assert_close(gather(features, pixels, picture=picture), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("damage", [torch.nan, torch.inf, -torch.inf])
def test_features_that_are_not_finite_are_refused_by_name(damage: float) -> None:
    features = torch.zeros(3, 4, dtype=torch.float16)
    check_finite(features, crop="a_0")
    features[2, 1] = damage
    with pytest.raises(CheckpointError, match="a_0: the diffusion model produces NaN or infinite features"):
        check_finite(features, crop="a_0")
