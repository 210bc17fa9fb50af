import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.diffusion.architecture import TAP_PARTS, Architecture, check_same, tap_names, tap_shapes
from cytoseg.diffusion.unet import build_diffusion, build_unet, run_to_taps, tapped
from cytoseg.errors import CheckpointError, RecipeError

PUBLISHED = Architecture(dim=64, dim_mults=(1, 2, 4, 8), timesteps=1000, schedule="linear", objective="pred_noise")


def _input(size_px: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, size_px, size_px, generator=generator), torch.tensor([1, 7])


def test_json_round_trip(tiny: Architecture) -> None:
    assert tiny.as_json()["dim_mults"] == [1, 2]
    assert Architecture.from_json(tiny.as_json()) == tiny


@pytest.mark.parametrize("key", ["dim", "dim_mults", "timesteps", "schedule", "objective"])
def test_what_a_checkpoint_does_not_say_is_not_taken_from_the_defaults(tiny: Architecture, key: str) -> None:
    with pytest.raises(LookupError, match=f"^'?{key}'?$"):
        Architecture.from_json({name: value for name, value in tiny.as_json().items() if name != key})


def test_sizes_must_be_halved_between_resolutions(tiny: Architecture) -> None:
    assert tiny.multiple_px == 2
    assert PUBLISHED.multiple_px == 8


@pytest.mark.slow
def test_another_architecture_is_refused_by_what_differs(tiny: Architecture) -> None:
    check_same(tiny, tiny, where="c")
    other = dataclasses.replace(tiny, dim=16, schedule="linear")
    with pytest.raises(
        CheckpointError,
        match=r"^c: .*\(dim 8 there, 16 in the recipe; schedule cosine there, linear in the recipe\)\. Use its recipe",
    ):
        check_same(tiny, other, where="c")


def test_weights_come_from_the_seed_alone(tiny: Architecture) -> None:
    before = torch.get_rng_state()
    first, again, other = (build_unet(tiny, seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["init_conv.weight"], other["init_conv.weight"])


def test_crops_are_not_scaled_a_second_time(tiny: Architecture) -> None:
    diffusion = build_diffusion(build_unet(tiny), tiny, size_px=16)
    crop = torch.tensor([-1.0, 0.0, 1.0])
    normalize = diffusion.normalize
    assert callable(normalize)
    assert torch.equal(normalize(crop), crop)


def test_taps_are_named_deepest_first(tiny: Architecture) -> None:
    assert tap_names(tiny) == tuple(f"block{i}.{part}" for i in (0, 1) for part in TAP_PARTS["lucidrains"])
    assert len(tap_names(PUBLISHED)) == 16


def test_tap_shapes_of_the_published_network() -> None:
    shapes = tap_shapes(PUBLISHED, tap_names(PUBLISHED))
    assert shapes == [
        *[(512, 8)] * 3,
        (256, 4),
        *[(256, 4)] * 3,
        (128, 2),
        *[(128, 2)] * 3,
        (64, 1),
        *[(64, 1)] * 3,
        (64, 1),
    ]
    assert sum(channels for channels, _ in shapes) == 3392


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(backbone="adm", dim=8, dim_mults=(1, 2, 3), adm=AdmSettings(attention=(4,))),
        Architecture(backbone="adm", dim=8, dim_mults=(2, 1), adm=AdmSettings(blocks=1, resample_in_blocks=False)),
        Architecture(backbone="adm", dim=8, dim_mults=(1, 2), adm=AdmSettings(block="convnext")),
    ],
)
def test_tap_shapes_of_adm_are_those_of_the_real_tensors(architecture: Architecture) -> None:
    names = tap_names(architecture)
    blocks = architecture.adm.blocks + 1
    assert names == tuple(f"block{i}.output" for i in range(blocks * len(architecture.dim_mults)))
    unet = build_unet(architecture).eval()
    with tapped(unet, names) as seen, torch.inference_mode():
        unet(*_input())
    expected = [(2, c, 16 // down, 16 // down) for c, down in tap_shapes(architecture, names)]
    assert [tuple(seen[name].shape) for name in names] == expected
    with torch.inference_mode():
        early = run_to_taps(unet, names[:2], *_input())
    assert all(torch.equal(early[name], seen[name]) for name in names[:2])


def test_the_blocks_of_the_paper_give_2816_channels_of_the_published_adm() -> None:
    published = Architecture(backbone="adm", dim=256, dim_mults=(1, 1, 2, 2, 4, 4))
    shapes = tap_shapes(published, [f"block{i}.output" for i in (5, 6, 7, 8, 12)])
    assert shapes == [(1024, 8), (512, 8), (512, 8), (512, 4), (256, 2)]
    assert sum(channels for channels, _ in shapes) == 2816


@pytest.mark.parametrize("dim_mults", [(1, 2), (1, 2, 4), (2, 1, 3)])
def test_tap_shapes_are_those_of_the_real_tensors(dim_mults: tuple[int, ...]) -> None:
    architecture = Architecture(dim=8, dim_mults=dim_mults, timesteps=10, schedule="cosine", objective="pred_noise")
    names = tap_names(architecture)
    unet = build_unet(architecture).eval()
    with tapped(unet, names) as seen, torch.inference_mode():
        unet(*_input())
    expected = [(2, c, 16 // down, 16 // down) for c, down in tap_shapes(architecture, names)]
    assert [tuple(seen[name].shape) for name in names] == expected


def test_unknown_taps_are_refused(tiny: Architecture) -> None:
    with pytest.raises(RecipeError, match=r"features\.taps: block2\.block1, x not in this network\. It has block0\.bl"):
        tap_shapes(tiny, ["block0.block1", "block2.block1", "x"])


def test_taps_hold_what_the_next_module_is_given(tiny: Architecture) -> None:
    unet = build_unet(tiny).eval()
    given: dict[str, Tensor] = {}
    attended: list[Tensor] = []
    ups = unet.get_submodule("ups")
    for i in (0, 1):
        _, block2, attention, upsample = (ups.get_submodule(f"{i}.{part}") for part in range(4))
        block2.register_forward_hook(lambda _m, _i, out, i=i: given.__setitem__(f"block{i}.block2", out))
        attention.register_forward_hook(lambda _m, _i, out: attended.append(out))
        upsample.register_forward_pre_hook(lambda _m, inputs, i=i: given.__setitem__(f"block{i}.attention", inputs[0]))
    with tapped(unet, tap_names(tiny)) as seen, torch.inference_mode():
        unet(*_input())
    for i in (0, 1):
        assert torch.equal(seen[f"block{i}.block2"], given[f"block{i}.block2"])
        assert torch.equal(seen[f"block{i}.attention"], given[f"block{i}.attention"])
        # After the residual: the branch alone is another tensor.
        torch.testing.assert_close(seen[f"block{i}.attention"], attended[i] + given[f"block{i}.block2"])
        assert not torch.allclose(seen[f"block{i}.attention"], attended[i])


def test_tapping_changes_nothing_and_ends_with_the_block(tiny: Architecture) -> None:
    unet = build_unet(tiny).eval()
    x, t = _input()
    with torch.inference_mode():
        plain = unet(x, t)
        with tapped(unet, ["block1.upsample"]) as seen:
            assert torch.equal(unet(x, t), plain)
        first = seen.pop("block1.upsample")
        unet(x, t)
    assert first.shape == (2, 8, 16, 16)
    assert seen == {}


@pytest.mark.parametrize(
    ("names", "not_run"),
    [
        (["block0.block1"], ["ups.0.1", "ups.1.0", "final_conv"]),
        (["block0.attention", "block0.block2"], ["ups.0.3", "ups.1.0", "final_conv"]),
        (["block1.block1", "block0.upsample"], ["ups.1.1", "ups.1.3", "final_conv"]),
        (
            tap_names(Architecture(dim=8, dim_mults=(1, 2), timesteps=10, schedule="cosine", objective="pred_noise")),
            ["final_res_block", "final_conv"],
        ),
    ],
)
def test_the_network_ends_at_the_last_tap(tiny: Architecture, names: list[str], not_run: list[str]) -> None:
    unet = build_unet(tiny).eval()
    ran: list[str] = []
    for name, module in unet.named_modules():
        module.register_forward_hook(lambda _m, _i, _o, name=name: ran.append(name))
    with torch.inference_mode():
        seen = run_to_taps(unet, names, *_input())
        assert "mid_block2" in ran
        assert set(ran) & set(not_run) == set()
        with tapped(unet, names) as whole:
            unet(*_input())
    assert set(ran) >= set(not_run)  # nothing that was put into the network is left
    assert seen.keys() == whole.keys() == set(names)
    for name in names:
        assert torch.equal(seen[name], whole[name])


def test_each_thread_gets_the_taps_of_its_own_pass(tiny: Architecture) -> None:
    unet, names, (x, t) = build_unet(tiny).eval(), tap_names(tiny), _input()
    of_other: list[dict[str, Tensor]] = []

    def pass_of_another_thread(_module: object, _inputs: object) -> None:
        if threading.current_thread() is threading.main_thread():
            with ThreadPoolExecutor(1) as pool:
                of_other.append(pool.submit(run_to_taps, unet, names[:2], x + 1, t).result())

    with torch.no_grad():
        wanted, wanted_of_other = run_to_taps(unet, names, x, t), run_to_taps(unet, names[:2], x + 1, t)
        unet.get_submodule("ups.1.1").register_forward_pre_hook(pass_of_another_thread)
        seen = run_to_taps(unet, names, x, t)
    assert seen.keys() == wanted.keys()
    assert of_other[0].keys() == wanted_of_other.keys()
    assert all(torch.equal(seen[name], wanted[name]) for name in names)
    torch.testing.assert_close(of_other[0], wanted_of_other)


def test_errors_of_the_network_come_out(tiny: Architecture) -> None:
    with pytest.raises(AssertionError, match="divisible"):
        run_to_taps(build_unet(tiny), ["block0.block1"], *_input(size_px=15))
