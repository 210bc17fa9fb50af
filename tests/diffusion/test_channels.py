import pytest
import torch

from cytoseg.diffusion.architecture import Architecture, check_same
from cytoseg.diffusion.channels import as_channels
from cytoseg.diffusion.failed_samples import fault_of
from cytoseg.diffusion.sample import noise_of
from cytoseg.diffusion.unet import build_unet
from cytoseg.errors import CheckpointError
from cytoseg.features.extract import DdpmTaps, FeatureExtractor
from cytoseg.features.settings import FeatureSettings

GREY = {
    name: Architecture(backbone=name, dim=8, dim_mults=(1, 2), timesteps=20, schedule="cosine", channels=1)
    for name in ("lucidrains", "adm")
}


def test_grey_values_pass_unchanged_and_colours_are_averaged() -> None:
    grey = (torch.arange(256) / 127.5 - 1).reshape(1, 1, 16, 16)
    assert torch.equal(as_channels(grey.expand(-1, 3, -1, -1), 1), grey)
    colour = torch.tensor([-1.0, 0.0, 0.25]).reshape(1, 3, 1, 1)
    assert as_channels(colour, 1).item() == pytest.approx(-0.25)
    assert as_channels(colour, 3) is colour
    assert as_channels(grey, 3).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("name", GREY)
def test_a_grey_network_takes_and_gives_one_channel(name: str) -> None:
    unet = build_unet(GREY[name])
    noise = next(noise_of(0, [0, 1], size_px=8, channels=1))
    with torch.inference_mode():
        for weight in unet.parameters():
            weight.add_(0.02)  # some layers begin with 0
        both = unet(noise, torch.tensor([3, 3]))
        alone = [unet(one[None], torch.tensor([3])) for one in noise]
    assert both.shape == noise.shape == (2, 1, 8, 8)
    torch.testing.assert_close(both, torch.cat(alone))
    assert float((both[0] - both[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("name", GREY)
def test_features_of_a_grey_network_see_the_mean_of_the_colours(name: str) -> None:
    architecture = GREY[name]
    unet = build_unet(architecture).eval()
    tap = "block0.block1" if name == "lucidrains" else "block0.output"
    settings = FeatureSettings((tap,), (1,), extractors=("ddpm", "filters"))
    extractor = FeatureExtractor(unet, architecture, settings, device=torch.device("cpu"))
    assert extractor.channels[-1] == 24
    colour = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = extractor(colour).maps
    again = extractor(colour.mean(1, keepdim=True).expand(-1, 3, -1, -1)).maps
    assert [m.shape[1] for m in found] == extractor.channels
    for one, other in zip(found, again, strict=True):
        torch.testing.assert_close(one, other)
    taps = DdpmTaps(unet, architecture, settings, device=torch.device("cpu"), precision="no")
    assert taps(colour)[0].abs().sum() > 0


def test_black_is_no_fault_of_a_grey_sample() -> None:
    assert fault_of(torch.full((1, 4, 4), -1.0)) is None
    assert fault_of(torch.full((1, 4, 4), torch.nan)) == "not finite"


def test_the_channels_are_part_of_a_checkpoint_and_older_ones_are_rgb() -> None:
    grey = GREY["adm"]
    assert grey.as_json()["channels"] == 1
    assert Architecture.from_json(grey.as_json()) == grey
    rgb = {key: value for key, value in grey.as_json().items() if key != "channels"}
    assert Architecture.from_json(rgb).channels == 3
    with pytest.raises(CheckpointError, match=r"\(channels 1 there, 3 in the recipe\)"):
        check_same(grey, Architecture.from_json(rgb), where="run")
    for wrong in (0, 2, True, "1"):
        with pytest.raises(ValueError, match="not an architecture"):
            Architecture.from_json({**rgb, "channels": wrong})
