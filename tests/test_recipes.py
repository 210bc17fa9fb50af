"""All shipped recipes."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from cytoseg.diffusion.architecture import tap_shapes
from cytoseg.diffusion.state import load_backbone
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.shipped import find_base_model, shipped_recipes
from cytoseg.synthetic.stains import STAINS, USUAL

ROOT = Path(__file__).parents[1]
CELLS = ("cervical", "cytology-base", "dsb16", "lbc", "lbc-base", "lbc-cric-base", "quickstart")
PUBLISHED = {
    "bedroom_28": ("lsun_bedroom", 29, "49.4 +- 1.9"),
    "ffhq_34": ("ffhq", 34, "59.1 +- 1.4"),
    "cat_15": ("lsun_cat", 15, "53.7 +- 3.3"),
    "horse_21": ("lsun_horse", 21, "65.0 +- 0.8"),
    "celeba_19": ("ffhq", 19, "59.9 +- 1.0"),
    "ade_bedroom_30": ("lsun_bedroom", 30, "34.6 +- 1.7"),
}
"""Base model, class ids, and published mean IoU of the sets of the paper on diffusion features."""
NAMES = (*CELLS, *PUBLISHED, "digits", "tiny_imagenet", "voc")


def test_there_are_as_many_recipes_as_are_tested() -> None:
    assert sorted(p.stem for p in shipped_recipes().iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_loads_and_survives_its_copy(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    copy = tmp_path / "recipe.yaml"
    copy.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(str(copy)) == recipe


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_begins_with_what_it_is_for_and_its_command(name: str) -> None:
    text = (shipped_recipes() / f"{name}.yaml").read_text(encoding="utf-8")
    comment = text.split("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in comment)
    first = "train-interpreter" if load_recipe(name).training.init is not None else "train-ddpm"
    assert any(line.startswith(f"#   cytoseg {first} {name}") for line in comment)


@pytest.mark.parametrize("name", [*CELLS, "digits"])
def test_unmarked_glass_is_background(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.fill == recipe.classes[0].name == "background"
    assert len({c.colour for c in recipe.classes}) == len(recipe.classes)


def test_cervical_has_the_published_values() -> None:
    recipe = load_recipe("cervical")
    assert recipe.crops.size_px == 256
    assert recipe.architecture().as_json() == {
        "dim": 64,
        "dim_mults": [1, 2, 4, 8],
        "timesteps": 1000,
        "schedule": "linear",
        "objective": "pred_noise",
        "backbone": "lucidrains",
        "mask_classes": [],
    }
    assert recipe.training.batch == 16
    assert recipe.class_list().names == ("background", "cell")
    assert recipe.feature_timesteps() == (50, 100, 150)
    assert len(recipe.taps()) == 16
    assert (recipe.interpreter.members, recipe.interpreter.steps) == (10, 1000)
    assert recipe.labels.test_fraction == 0.5


def test_what_a_recipe_starts_from_is_there_and_fits() -> None:
    started = {name: start for name in CELLS if (start := load_recipe(name).training.init) is not None}
    assert set(started) == {"dsb16", "lbc", "quickstart"}
    for name, start in started.items():
        _, architecture, origin = load_backbone(find_base_model(start), load_recipe(name).architecture())
        assert architecture == load_recipe("cytology-base").architecture()
        assert architecture.mask_classes == ("background", "cytoplasm", "nucleus")
        assert origin["crops_seen"] >= 16_000
    _, architecture, origin = load_backbone(find_base_model(Path("lbc-base")))
    assert architecture == load_recipe("lbc-base").architecture()
    assert origin["crops_seen"] == 132_000


def test_shipped_weights_are_small_and_say_what_they_are() -> None:
    folders = [path for path in (ROOT / "data" / "checkpoints").iterdir() if path.is_dir()]
    assert folders
    assert sum(path.stat().st_size for folder in folders for path in folder.rglob("*")) < 24e6
    for folder in folders:
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "Not stated" not in card
        assert "CC BY 4.0" in card
        drawn = load_recipe(folder.name).training.denoising_weight > 0
        assert ("![samples](samples.png)" in card) == drawn
        assert (folder / "samples.png").exists() == drawn


def test_the_demo_s_slides_are_none_that_the_base_model_may_have_seen() -> None:
    lines = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "recipes/quickstart.yaml")}
    made = {re.search(r"slides generate (data/made .*)", text)[1] for text in lines.values()}  # type: ignore[index] # both have one
    assert len(made) == 1  # the recipe says what the Makefile does
    stains = re.findall(r"--stain (\S+)", made.pop())
    assert stains
    assert set(stains) <= set(STAINS) - set(USUAL)
    base = (ROOT / "recipes" / "cytology-base.yaml").read_text(encoding="utf-8")
    assert "--stain" not in base
    assert "--seed 77 " in base  # and the demo's is 0


def test_the_demo_segments_a_train_slide_and_a_test_slide() -> None:
    (line,) = re.findall(r"predict \$\(RECIPE\) (data/made/slides/.*)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    names = [Path(path).name.partition(".")[0] for path in line.split()]
    tests = load_recipe("quickstart").labels.test_slides
    assert [any(fnmatch(name, pattern) for pattern in tests) for name in names] == [False, True]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_set_has_the_published_settings(name: str) -> None:
    model, ids, figure = PUBLISHED[name]
    recipe, text = load_recipe(name), (shipped_recipes() / f"{name}.yaml").read_text(encoding="utf-8")
    comment = text.split("\n\n")[0]
    assert f"{model}.pt" in comment
    assert f"Published mean IoU with the same training and vote: {figure} %" in comment
    assert f"label-import datasets/{name}/real --recipe {name} --resize 256 --ignore-below 20" in comment
    assert ("--ignore background" in comment) == (name == "bedroom_28")
    assert len(recipe.classes) == ids
    assert len({c.colour for c in recipe.classes}) == ids
    assert recipe.training.init == Path("data") / model
    assert recipe.fill is None
    shapes = tap_shapes(recipe.architecture(), recipe.taps())
    assert [channels for channels, _ in shapes] == [1024, 512, 512, 512, 256]
    assert sum(channels for channels, _ in shapes) * len(recipe.feature_timesteps()) == 8448
    assert recipe.feature_timesteps() == (50, 150, 250)
    assert (recipe.interpreter.mode, recipe.interpreter.members, recipe.interpreter.vote) == ("reference", 10, "hard")
    assert (recipe.architecture().schedule, recipe.architecture().timesteps) == ("linear", 1000)
