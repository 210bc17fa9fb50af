import pytest
import torch

from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.unet import build_unet, tapped
from cytoseg.interpreter.decoder import Decoder, view_probabilities

TINY = Architecture(dim=8, dim_mults=(1, 2), timesteps=1000, schedule="linear", objective="pred_noise")


@pytest.fixture
def decoder() -> Decoder:
    return Decoder(build_unet(TINY, seed=1), TINY, 3, seed=2).eval()


def _pictures(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_head_reads_what_the_last_convolution_did(decoder: Decoder) -> None:
    unet, pictures = build_unet(TINY, seed=1).eval(), _pictures(2, 3, 8, 12)
    seen: list[torch.Tensor] = []
    unet.get_submodule("final_conv").register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    with torch.no_grad(), tapped(unet, []):
        unet(pictures, torch.zeros(2, dtype=torch.int64))
        expected = torch.einsum("nchw,kc->nkhw", seen[0], decoder.head.weight[:, :, 0, 0])
        torch.testing.assert_close(decoder(pictures), expected, atol=1e-5, rtol=1e-5)


def test_the_network_it_starts_from_is_left_alone() -> None:
    unet = build_unet(TINY, seed=1)
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    decoder = Decoder(unet, TINY, 3, seed=2)
    with torch.no_grad():
        for tensor in decoder.parameters():
            tensor.add_(1)
    torch.testing.assert_close(dict(unet.state_dict()), before, atol=0, rtol=0)


def test_the_seed_decides_the_head() -> None:
    heads = [Decoder(build_unet(TINY), TINY, 4, seed=seed).head.weight for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_the_head_starts_from_a_mask_head_that_knows_the_classes() -> None:
    architecture = Architecture(
        dim=8,
        dim_mults=(1, 1, 1),
        timesteps=10,
        schedule="cosine",
        backbone="pretrained",
        mask_classes=("glass", "cell", "dirt"),
    )
    unet = build_unet(architecture, seed=1)
    known = Decoder(unet, architecture, 2, seed=0, names=("dirt", "glass"))
    weight = unet.get_parameter("mask_head.weight")
    assert torch.equal(known.head.weight, weight[[2, 0]])
    assert torch.equal(torch.as_tensor(known.head.bias), unet.get_parameter("mask_head.bias")[[2, 0]])
    unknown = Decoder(unet, architecture, 2, seed=0, names=("glass", "nucleus"))
    assert torch.equal(unknown.head.weight, Decoder(unet, architecture, 2, seed=0).head.weight)
    pictures = _pictures(1, 3, 9, 13)
    assert known(pictures).shape == (1, 2, 9, 13)


@pytest.mark.parametrize("size", [(1, 1), (7, 10), (8, 8)])
def test_pictures_of_any_size_are_padded_and_cut(decoder: Decoder, size: tuple[int, int]) -> None:
    pictures = _pictures(1, 3, *size)
    scores = decoder(pictures)
    assert scores.shape == (1, 3, *size)
    padded = torch.nn.functional.pad(pictures, (0, size[1] % 2, 0, size[0] % 2), mode="replicate")
    torch.testing.assert_close(scores, decoder(padded)[:, :, : size[0], : size[1]])


def test_odds_that_weights_raised_are_lowered_again(decoder: Decoder) -> None:
    pictures, weights = _pictures(1, 3, 8, 8), torch.tensor([0.25, 1.0, 0.5])
    with torch.no_grad():
        before = decoder(pictures).softmax(1)
        decoder.undo_weights(weights)
        after = decoder(pictures).softmax(1)
    expected = before / weights[:, None, None]
    torch.testing.assert_close(after, expected / expected.sum(1, keepdim=True))


def test_a_class_ruled_out_has_no_probability(decoder: Decoder) -> None:
    before = decoder(_pictures(1, 3, 8, 8)).detach()
    decoder.rule_out([1])
    after = decoder(_pictures(1, 3, 8, 8))
    assert (after.softmax(1)[:, 1] == 0).all()
    torch.testing.assert_close(after[:, [0, 2]], before[:, [0, 2]])


def test_views_are_mirrored_back(decoder: Decoder) -> None:
    pictures = _pictures(2, 3, 8, 12)
    views = view_probabilities(decoder, pictures, precision="no")
    assert views.shape == (4, 2, 3, 8, 12)
    with torch.no_grad():
        torch.testing.assert_close(views[0], decoder(pictures).softmax(1))
        for view, axes in enumerate([(), (3,), (2,), (2, 3)]):
            alone = decoder(pictures.flip(axes)).softmax(1).flip(axes)
            torch.testing.assert_close(views[view], alone)
    # A network that is not symmetric sees another image in the mirror.
    assert not torch.allclose(views[0], views[1])
    torch.testing.assert_close(views.sum(2), torch.ones(4, 2, 8, 12))


@pytest.mark.usefixtures("bf16_everywhere")
def test_bf16_changes_probabilities_a_little(decoder: Decoder) -> None:
    exact, rough = (view_probabilities(decoder, _pictures(1, 3, 8, 8), precision=p) for p in ("no", "bf16"))
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(exact, rough, atol=0.05, rtol=0)
