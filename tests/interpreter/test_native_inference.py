from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cytoseg.diffusion.architecture import Architecture, tap_names
from cytoseg.diffusion.unet import build_unet
from cytoseg.features.extract import FeatureExtractor, NativeFeatures
from cytoseg.features.settings import EXTRACTORS, FeatureSettings
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.native_inference import member_probabilities
from tests.interpreter import oracle

TINY = Architecture(dim=8, dim_mults=(1, 2), timesteps=1000, schedule="linear", objective="pred_noise")
EVERY = tap_names(TINY)
MakeEnsemble = Callable[..., Ensemble]
PlainMember = Callable[[Ensemble, int], nn.Sequential]


def _features(settings: FeatureSettings, height: int, width: int) -> NativeFeatures:
    extractor = FeatureExtractor(build_unet(TINY, seed=1).eval(), TINY, settings, device=torch.device("cpu"))
    return extractor(torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1)


def _dense_probabilities(features: NativeFeatures, ensemble: Ensemble, plain: PlainMember) -> Tensor:
    """The slow and obvious way: every map at full size, and torch's own layers at each pixel; (M, N, K, H, W)."""
    height, width = features.size
    stack = oracle.upsampled(features.maps, features.padded)[:, :, :height, :width]
    number = len(stack)
    pixels = (oracle.pixels_of(stack) - ensemble.mean) / ensemble.scale
    members = [plain(ensemble, m)(pixels).softmax(1) for m in range(ensemble.members)]
    return torch.stack(members).reshape(len(members), number, height, width, -1).permute(0, 1, 4, 2, 3)


@pytest.mark.parametrize(
    ("scale", "extractors"),
    [(1, EXTRACTORS[:1]), (2, EXTRACTORS[:1]), (1, EXTRACTORS[:2]), (2, EXTRACTORS), (1, EXTRACTORS[2:])],
)
@pytest.mark.parametrize(("taps", "timesteps"), [(EVERY, (50,)), (EVERY[1::3], (50, 150)), (EVERY[:1], (50,))])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10), (9, 5)])
def test_equals_the_whole_feature_stack_read_pixel_by_pixel(
    make_ensemble: MakeEnsemble,
    plain_member: PlainMember,
    *,
    taps: tuple[str, ...],
    timesteps: tuple[int, ...],
    scale: int,
    extractors: tuple[str, ...],
    height: int,
    width: int,
) -> None:
    features = _features(FeatureSettings(taps, timesteps, scale, noise_seed=3, extractors=extractors), height, width)
    ensemble = make_ensemble(3, sum(m.shape[1] for m in features.maps), 4)
    if "pretrained" in extractors:  # which are large: as they come, every pixel would be sure of one class
        pixels = oracle.pixels_of(oracle.upsampled(features.maps, features.padded))
        ensemble.mean.copy_(pixels.mean(0))
        ensemble.scale.copy_(pixels.std(0).clamp_min(1e-2))
    found = member_probabilities(ensemble, features)
    assert found.shape == (3, 2, 4, height, width)
    assert found.dtype == torch.float32
    with torch.inference_mode():
        expected = _dense_probabilities(features, ensemble, plain_member)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.sum(2), torch.ones(3, 2, height, width), atol=1e-5, rtol=0)
    # Else the comparison would hold of anything: the probabilities differ between pixels, members and images.
    assert float(found.std(dim=(3, 4)).mean()) > 0.01
    assert float((found[0] - found[1]).abs().max()) > 0.05


def test_maps_may_lie_in_memory_in_any_order(make_ensemble: MakeEnsemble) -> None:
    """Channels first and channels last, images joined or not: 16 rows and more take another way through torch."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 5, 12, 10, generator=generator), torch.randn(2, 3, 24, 20, generator=generator)]
    ensemble = make_ensemble(2, 8, 3)
    found = member_probabilities(ensemble, NativeFeatures(maps, (23, 20), (24, 20)))
    last = [m.contiguous(memory_format=torch.channels_last) for m in maps]
    torch.testing.assert_close(
        member_probabilities(ensemble, NativeFeatures(last, (23, 20), (24, 20))), found, atol=1e-6, rtol=0
    )
    for i in range(2):
        alone = NativeFeatures([m[i : i + 1] for m in maps], (23, 20), (24, 20))
        torch.testing.assert_close(member_probabilities(ensemble, alone)[:, 0], found[:, i], atol=1e-6, rtol=0)


@pytest.mark.usefixtures("bf16_everywhere")
def test_bf16_is_near_even_where_features_lie_far_from_zero(make_ensemble: MakeEnsemble) -> None:
    """Around 100, bfloat16 knows only every half: what varies must be taken out before it is rounded."""
    generator = torch.Generator().manual_seed(0)
    maps = [100 + torch.randn(1, 40, 16 * n, 16 * n, generator=generator) for n in (1, 2)]
    ensemble = make_ensemble(3, 80, 3)
    ensemble.mean.fill_(100)
    features = NativeFeatures(maps, (32, 30), (32, 32))
    exact, rough = (member_probabilities(ensemble, features, precision=p) for p in ("no", "bf16"))
    assert rough.dtype == torch.float32
    assert 0 < float((rough - exact).abs().max()) < 0.02
    assert float((rough - exact).abs().mean()) < 0.002
    assert float(exact.std(dim=(3, 4)).mean()) > 0.01


def test_constant_features_give_constant_probabilities(make_ensemble: MakeEnsemble) -> None:
    maps = [torch.full((1, 2, 4, 3), 0.5), torch.full((1, 1, 8, 6), -1.0)]
    found = member_probabilities(make_ensemble(2, 3, 3), NativeFeatures(maps, (7, 5), (8, 6)))
    torch.testing.assert_close(found, found[..., :1, :1].expand_as(found), atol=1e-6, rtol=0)


def test_no_features_is_refused(make_ensemble: MakeEnsemble) -> None:
    with pytest.raises(ValueError, match="there are no feature maps"):
        member_probabilities(make_ensemble(2, 3, 3), NativeFeatures([], (4, 4), (4, 4)))
