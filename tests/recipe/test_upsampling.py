import json
from pathlib import Path
from typing import Any

import pytest

from cytoseg.errors import RecipeError
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.recipe.upsampling import small_run_folder

TEXT = """\
name: large
crops: {{size_px: {size}}}
diffusion: {{backbone: adm, dim_mults: [1, 2], upsample_from: {named}}}
features: {{taps: all}}
predict: {{tile_px: 64, overlap_px: 8}}
classes: [{{name: glass, colour: "#ffffff"}}, {{name: cell, colour: "#000000"}}]
"""


@pytest.fixture(autouse=True)
def small_image_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be in a folder with a run of images of 32 px, and its recipe."""
    monkeypatch.chdir(tmp_path)
    _leave(Path("runs/small/ddpm/checkpoint-000000008"), 32)
    Path("small.yaml").write_text("name: small\n", encoding="utf-8")


def _leave(folder: Path, size_px: Any) -> None:
    folder.mkdir(parents=True)
    state = {"architecture": {}, "recipe": {"crops": {"size_px": size_px}}}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")


def _load(size: int = 64, named: str = "small", *overrides: str) -> Recipe:
    Path("large.yaml").write_text(TEXT.format(size=size, named=named), encoding="utf-8")
    return load_recipe("large.yaml", overrides)


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("runs/small/ddpm", "runs/small/ddpm"),
        ("runs/small/ddpm/checkpoint-000000008", "runs/small/ddpm/checkpoint-000000008"),
        ("runs/small", "runs/small/ddpm"),
        ("small", "runs/small/ddpm"),
        ("small.yaml", "runs/small/ddpm"),
        ("other", "other"),
        ("runs/other/ddpm", "runs/other/ddpm"),
    ],
)
def test_a_run_is_found_by_folder_name_and_recipe(named: str, found: str) -> None:
    assert small_run_folder(Path(named)) == Path(found)


def test_a_file_that_is_no_recipe_is_left_for_the_command_to_refuse() -> None:
    for name, text in (("list.yaml", "- 1\n"), ("broken.yaml", "a: [\n")):
        Path(name).write_text(text, encoding="utf-8")
        assert small_run_folder(Path(name)) == Path(name)


@pytest.mark.parametrize("named", ["small", "runs/small/ddpm/checkpoint-000000008"])
def test_the_factor_follows_from_both_sizes(named: str) -> None:
    recipe = _load(128, named)
    assert recipe.diffusion.upsample == 4
    architecture = recipe.architecture()
    assert (architecture.upsample, architecture.upsample_from, architecture.given_channels) == (4, None, 4)
    assert _load(128, named, "diffusion.upsample=2").diffusion.upsample == 2


@pytest.mark.parametrize("size_px", [48, 32, 128])
def test_sizes_that_do_not_divide_are_left_for_the_command_to_refuse(size_px: int) -> None:
    _leave(Path("runs/other/ddpm/checkpoint-000000008"), 48 if size_px == 48 else size_px)
    assert _load(64, "other").diffusion.upsample == (2 if size_px == 32 else 1)


@pytest.mark.parametrize("size_px", ["32", None, -1, 0])
def test_a_damaged_size_is_left_for_the_command_to_refuse(size_px: Any) -> None:
    _leave(Path("runs/other/ddpm/checkpoint-000000008"), size_px)
    assert _load(64, "other").diffusion.upsample == 1


def test_the_run_s_own_checkpoint_keeps_its_factor_without_the_small_run() -> None:
    own = Path("runs/large/ddpm/checkpoint-000000004")
    _leave(own, 64)
    values = _load().architecture().as_json()
    (own / "state.json").write_text(json.dumps({"architecture": values}), encoding="utf-8")
    assert _load(64, "gone").diffusion.upsample == 2


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("diffusion.backbone=lucidrains", "diffusion.upsample_from: needs diffusion.backbone: adm, found lucidrains"),
        ("diffusion.condition=map", "takes a small image or a map, found condition map"),
        ("diffusion.upsample=3", "crops.size_px: 64 is not a multiple of diffusion.upsample, 3"),
        ("diffusion.upsample=0", "diffusion.upsample"),
        ("space.kind=kl", "space.kind: diffusion.upsample_from works with pixels only"),
    ],
)
def test_a_network_that_cannot_enlarge_is_refused(override: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        _load(64, "small", override)
    assert said in str(caught.value)


def test_real_crops_alone_need_no_run() -> None:
    recipe = _load(64, "null", "diffusion.upsample=2")
    assert recipe.diffusion.upsample_from is None
    with pytest.raises(RecipeError, match=r"diffusion.upsample: needs diffusion.backbone: adm"):
        _load(64, "null", "diffusion.upsample=2", "diffusion.backbone=lucidrains")
