import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cytoseg.errors import RecipeError
from cytoseg.recipe import Recipe, dump_recipe, load_recipe

Load = Callable[..., Recipe]
SMALL = {"dim": 16, "dim_mults": [1, 2], "timesteps": 500, "schedule": "cosine", "objective": "pred_v"}


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write_weights(folder: Path, **architecture: Any) -> Path:
    """Write what of a checkpoint says its architecture."""
    folder.mkdir(parents=True)
    found = {**SMALL, "backbone": "lucidrains", "of_a_later_version": 3, **architecture}
    (folder / "state.json").write_text(json.dumps({"format": 1, "architecture": found}), encoding="utf-8")
    return folder


def _architecture(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in recipe.architecture().as_json().items() if key in SMALL}


@pytest.mark.parametrize("init", ["base", "other/ddpm"])
def test_an_init_brings_its_architecture_and_the_copy_says_so(load: Load, in_tmp_path: Path, init: str) -> None:
    _write_weights(Path("base"))
    _write_weights(Path("other/ddpm/checkpoint-000000900"), dim=64)
    _write_weights(Path("other/ddpm/checkpoint-000001000"))
    _write_weights(Path("other/ddpm/checkpoint-1000000000000"))
    recipe = load(f"training.init={init}")
    assert _architecture(recipe) == SMALL
    Path("copy.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe("copy.yaml") == recipe
    assert _architecture(load()) != SMALL


def test_a_network_with_a_mask_head_brings_what_suits_it(load: Load, in_tmp_path: Path) -> None:
    _write_weights(Path("base"), mask_classes=["nucleus"])
    _write_weights(Path("plain"))
    with_head, without = load("training.init=base"), load("training.init=plain")
    assert (with_head.feature_timesteps(), without.feature_timesteps()) == ((0,), (50, 100, 150))
    mlps, decoder = with_head.interpreter, with_head.decoder
    assert (mlps.steps, mlps.batch_px, mlps.pixels_per_crop) == (1500, 128, 8000)
    assert (decoder.steps, decoder.passes, decoder.early) == (1000, 90, 0.3)
    assert (without.interpreter, without.decoder) == (load().interpreter, load().decoder)
    own = load("training.init=base", "features.timesteps=[7]", "interpreter.steps=9", "decoder.early=0")
    assert (own.feature_timesteps(), own.interpreter.steps, own.interpreter.batch_px) == ((7,), 9, 128)
    assert (own.decoder.early, own.decoder.passes) == (0, 90)
    assert load("training.init=base", "features.timesteps=null").feature_timesteps() == (50, 100, 150)
    assert load("training.init=base", "features.snr_db=[10]").features.timesteps is None
    Path("copy.yaml").write_text(dump_recipe(with_head), encoding="utf-8")
    assert load_recipe("copy.yaml") == with_head


def test_what_is_set_by_hand_must_be_the_same(load: Load, in_tmp_path: Path) -> None:
    _write_weights(Path("base"))
    assert _architecture(load("training.init=base", "diffusion.dim=16", "diffusion.dim_mults=[1, 2]")) == SMALL
    with pytest.raises(RecipeError, match=r"init=base is of a different architecture") as caught:
        load("training.init=base", more="diffusion: {dim: 32, schedule: linear, objective: pred_v}\n")
    assert "(diffusion.dim 16 there, 32 here; diffusion.schedule cosine there, linear here)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_goes_on_with_its_own_weights(load: Load, in_tmp_path: Path) -> None:
    _write_weights(Path("runs/tiny/ddpm/checkpoint-000000002"))
    _write_weights(Path("base"), dim=64)
    assert _architecture(load()) == SMALL
    assert _architecture(load("training.init=base")) == SMALL  # its first crop lies behind it
    assert _architecture(load("diffusion.dim=32")) == {**SMALL, "dim": 32}  # refused where the weights are read
    assert _architecture(load("folder=elsewhere")) != SMALL


@pytest.mark.parametrize(
    "state", ["", "[]", "{}", '{"architecture": 3}', '{"architecture": {"dim": "x"}}', "[" * 100_000, b"\xff\xfe"]
)
def test_damaged_weights_change_nothing(load: Load, in_tmp_path: Path, state: str | bytes) -> None:
    path = _write_weights(Path("base")) / "state.json"
    path.write_bytes(state if isinstance(state, bytes) else state.encode())
    default = load()
    assert load("training.init=base").architecture() == default.architecture()
    assert load("training.init=nowhere").architecture() == default.architecture()


@pytest.mark.parametrize(
    "wrong",
    [
        "diffusion: 3\n",
        "training: [1]\n",
        "training: {init: base}\ninterpreter: 3\n",
        "training: {init: base}\ndiffusion: {dim: x}\n",
    ],
)
def test_wrong_sections_are_left_to_the_schema(load: Load, in_tmp_path: Path, wrong: str) -> None:
    _write_weights(Path("base"))
    with pytest.raises(RecipeError, match=r"tiny\.yaml: (diffusion|training|interpreter)"):
        load(more=wrong)


def test_a_base_model_by_its_name(load: Load, in_tmp_path: Path) -> None:
    recipe = load("training.init=lbc-base")
    assert recipe.architecture() == load_recipe("lbc-base").architecture()
