"""ADM against the list of guided-diffusion's tensors and against diffusers' network of the same weights."""

import hashlib
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from cytoseg.diffusion import import_lucidrains  # noqa: F401 # mends torchvision, which diffusers imports
from cytoseg.diffusion.adm import AdmShape, AdmUnet, sinusoids, with_map_channels
from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.diffusion.unet import tapped

PUBLISHED = AdmShape(256, (1, 1, 2, 2, 4, 4), 6, AdmSettings())
SMALL = AdmShape(64, (1, 1, 2), 6, AdmSettings(attention=(2, 4)))


def _filled(network: nn.Module) -> nn.Module:
    """Redraw every weight: zeroed layers would hide what lies behind them."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.1 * noise if is_norm else noise / max(1, parameter[0].numel()) ** 0.5)
    return network.eval()


def test_the_published_network_has_the_tensors_of_its_file() -> None:
    with torch.device("meta"):
        tensors = AdmUnet(PUBLISHED).state_dict()
    lines = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
    assert len(lines) == 566
    assert sum(tensor.numel() for tensor in tensors.values()) == 552_814_086
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert digest == "b9c90be1570d1541c91bede05b270bfb6bd51a7d5432e7b06f3a4c4cb257b1b6"


def test_the_published_network_gives_8448_channels_at_the_papers_blocks() -> None:
    with torch.device("meta"):
        unet = AdmUnet(PUBLISHED)
        shapes: list[torch.Size] = []
        for stage in unet.output_blocks:
            stage.register_forward_hook(lambda _module, _inputs, output: shapes.append(output.shape))
        unet(torch.zeros(1, 3, 256, 256), torch.zeros(1))
    assert [(shape[1], shape[2]) for shape in shapes] == [
        *((1024, 8), (1024, 8), (1024, 16)),
        *((1024, 16), (1024, 16), (1024, 32)),
        *((512, 32), (512, 32), (512, 64)),
        *((512, 64), (512, 64), (512, 128)),
        *((256, 128), (256, 128), (256, 256)),
        *((256, 256), (256, 256), (256, 256)),
    ]
    assert 3 * sum(shapes[block][1] for block in (5, 6, 7, 8, 12)) == 8448


def _ours_of(theirs: Mapping[str, Tensor], levels: int, blocks: int) -> dict[str, Tensor]:
    """Rename diffusers' tensors to guided-diffusion's names, and join its queries, keys and values."""
    places = {"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "conv_norm_out": "out.0"}
    places |= {"time_embedding.linear_2": "time_embed.2", "conv_out": "out.2"}
    places |= {"mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1"}
    places |= {"mid_block.resnets.1": "middle_block.2"}
    for level in range(levels):
        first = 1 + level * (blocks + 1)
        places[f"down_blocks.{level}.downsamplers.0"] = f"input_blocks.{first + blocks}.0"
        for i in range(blocks):
            places[f"down_blocks.{level}.resnets.{i}"] = f"input_blocks.{first + i}.0"
            places[f"down_blocks.{level}.attentions.{i}"] = f"input_blocks.{first + i}.1"
        last = level * (blocks + 1) + blocks
        has_attention = f"up_blocks.{level}.attentions.0.to_q.weight" in theirs
        places[f"up_blocks.{level}.upsamplers.0"] = f"output_blocks.{last}.{1 + has_attention}"
        for i in range(blocks + 1):
            places[f"up_blocks.{level}.resnets.{i}"] = f"output_blocks.{level * (blocks + 1) + i}.0"
            places[f"up_blocks.{level}.attentions.{i}"] = f"output_blocks.{level * (blocks + 1) + i}.1"
    parts = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0"}
    parts |= {"conv2": "out_layers.3", "conv_shortcut": "skip_connection", "group_norm": "norm", "to_out.0": "proj_out"}
    ours = {}
    for name, tensor in theirs.items():
        place, rest = next((ours, name[len(key) + 1 :]) for key, ours in places.items() if name.startswith(f"{key}."))
        part, _, kind = rest.rpartition(".")
        if part in {"to_k", "to_v"}:
            continue
        if part == "to_q":
            joined = [theirs[name.replace("to_q", other)] for other in ("to_q", "to_k", "to_v")]
            part, tensor = "qkv", _head_by_head(joined)
        if part in {"qkv", "to_out.0"} and kind == "weight":
            tensor = tensor[..., None]  # linear layers there, convolutions of one pixel here
        ours[".".join(filter(None, (place, parts.get(part, part), kind)))] = tensor
    return ours


def _head_by_head(joined: list[Tensor]) -> Tensor:
    heads = [part.unflatten(0, (-1, 64)) for part in joined]
    return torch.stack(heads, dim=1).flatten(0, 2)


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    from diffusers import UNet2DModel  # takes seconds to import

    return _filled(
        UNet2DModel(
            in_channels=3,
            out_channels=6,
            block_out_channels=(64, 64, 128),
            down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
            layers_per_block=2,
            downsample_type="resnet",
            upsample_type="resnet",
            resnet_time_scale_shift="scale_shift",
            attention_head_dim=64,
            norm_eps=1e-5,
            attn_norm_num_groups=32,
            freq_shift=0,
        )
    )


def test_a_small_network_equals_diffusers(theirs: nn.Module) -> None:
    ours = AdmUnet(SMALL).eval()
    ours.load_state_dict(_ours_of(theirs.state_dict(), levels=3, blocks=2), strict=True)
    generator = torch.Generator().manual_seed(1)
    pictures, times = torch.randn(2, 3, 16, 16, generator=generator), torch.tensor([50, 900])
    places = [f"up_blocks.{block // 3}.{_last_of(theirs, *divmod(block, 3))}".rstrip(".") for block in range(9)]
    seen: list[Tensor] = []
    for place in places:
        theirs.get_submodule(place).register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    names = [f"block{block}.output" for block in range(9)]
    with torch.no_grad(), tapped(ours, names) as taps:
        expected = theirs(pictures, times).sample
        torch.testing.assert_close(ours(pictures, times), expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.1
    assert len(seen) == len(taps) == 9
    for name, wanted in zip(names, seen, strict=True):
        torch.testing.assert_close(taps[name] / wanted.std(), wanted / wanted.std(), atol=1e-5, rtol=1e-5)


def _last_of(theirs: nn.Module, level: int, block: int) -> str:
    """Name diffusers' module whose output is that of our block: of the whole level, an attention or a residual."""
    if block == 2:
        return ""
    has_attention = hasattr(theirs.get_submodule(f"up_blocks.{level}"), "attentions")
    return f"{'attentions' if has_attention else 'resnets'}.{block}"


def test_timesteps_are_embedded_as_cosines_then_sines() -> None:
    embedded = sinusoids(torch.tensor([0, 10]), 4)
    expected = [[1, 1, 0, 0], [torch.cos(torch.tensor(10.0)), 0.995004, torch.sin(torch.tensor(10.0)), 0.0998334]]
    torch.testing.assert_close(embedded, torch.tensor(expected))


VARIANTS = [
    AdmSettings(attention=()),
    AdmSettings(attention=(2,), conditioning="add", resample_in_blocks=False),
    AdmSettings(attention=(), block="convnext"),
    AdmSettings(attention=(1,), block="convnext", conditioning="add", blocks=1),
]


@pytest.mark.parametrize("settings", VARIANTS)
@pytest.mark.parametrize(("in_channels", "out_channels"), [(1, 1), (5, 6)])
def test_every_variant_depends_on_picture_and_timestep(
    settings: AdmSettings, in_channels: int, out_channels: int
) -> None:
    unet = _filled(AdmUnet(AdmShape(8, (1, 2), out_channels, settings, in_channels=in_channels)))
    pictures = torch.randn(2, in_channels, 8, 12, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        output = unet(pictures, torch.tensor([3, 3]))
        assert output.shape == (2, out_channels, 8, 12)
        torch.testing.assert_close(unet(pictures[1:], torch.tensor([3]))[0], output[1], atol=1e-5, rtol=1e-4)
        assert (unet(pictures, torch.tensor([3, 4]))[1] - output[1]).abs().max() > 1e-4
        assert (unet(pictures.flip(0), torch.tensor([3, 3]))[0] - output[0]).abs().max() > 1e-2


def test_without_attention_there_is_none_in_the_middle_either() -> None:
    names = AdmUnet(AdmShape(8, (1, 2), 3, AdmSettings(attention=()))).state_dict()
    assert not [name for name in names if "qkv" in name]


def test_a_new_network_predicts_zero() -> None:
    unet = AdmUnet(AdmShape(8, (1, 2), 3, AdmSettings()))
    assert not unet(torch.randn(1, 3, 8, 8), torch.tensor([5])).any()


def test_classes_change_the_prediction_and_are_asked_for() -> None:
    unet = _filled(AdmUnet(AdmShape(8, (1, 2), 3, AdmSettings(attention=()), classes=2)))
    picture, time = torch.zeros(1, 3, 8, 8), torch.tensor([5])
    with torch.no_grad():
        first, second = (unet(picture, time, torch.tensor([k])) for k in range(2))
    assert (first - second).abs().max() > 1e-3
    with pytest.raises(ValueError, match="if and only if the network"):
        unet(picture, time)
    plain = AdmUnet(AdmShape(8, (1, 2), 3, AdmSettings()))
    with pytest.raises(ValueError, match="if and only if the network"):
        plain(picture, time, torch.tensor([0]))


def test_a_map_changes_the_prediction_and_none_is_one_that_is_unknown_everywhere() -> None:
    unet = _filled(AdmUnet(AdmShape(8, (1, 2), 3, AdmSettings(attention=()), map_channels=3)))
    picture, time = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3)), torch.tensor([5])
    unknown, nucleus = (torch.eye(3)[k].reshape(1, 3, 1, 1).expand(1, 3, 8, 8) for k in (2, 1))
    with torch.no_grad():
        free = unet(picture, time)
        assert torch.equal(unet(picture, time, None, unknown), free)
        assert (unet(picture, time, None, nucleus) - free).abs().max() > 1e-2
    assert (unet.channels, unet.out_dim, free.shape[1]) == (3, 3, 3)


def test_channels_for_a_map_change_nothing_before_they_have_learned() -> None:
    plain = _filled(AdmUnet(AdmShape(8, (1, 2), 3, AdmSettings(attention=()))))
    unet = AdmUnet(AdmShape(8, (1, 2), 3, AdmSettings(attention=()), map_channels=3)).eval()
    unet.load_state_dict(with_map_channels(plain.state_dict(), unet.state_dict()), strict=True)
    picture, time = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(4)), torch.tensor([5])
    with torch.no_grad():
        torch.testing.assert_close(unet(picture, time, None, torch.ones(1, 3, 8, 8)), plain(picture, time))
    assert with_map_channels(unet.state_dict(), unet.state_dict()).keys() == unet.state_dict().keys()
