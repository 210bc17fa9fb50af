from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest
from ruamel.yaml import YAML

from cytoseg.classes import ClassList
from cytoseg.errors import RecipeError
from cytoseg.recipe import Recipe, dump_recipe, find_recipe, load_recipe

SMALLEST = """\
name: tiny
classes:
  - {name: background, colour: "#f0f0f0"}
  - {name: cell, colour: "#0072b2"}
"""

Load = Callable[..., Recipe]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load the smallest recipe, with more YAML after it, or another text instead of it, and with overrides."""

    def load(*overrides: str, more: str = "", text: str = SMALLEST) -> Recipe:
        path = tmp_path / "tiny.yaml"
        path.write_text(text + more, encoding="utf-8")
        return load_recipe(str(path), overrides)

    return load


def test_what_is_left_out_has_the_published_values(load: Load) -> None:
    recipe = load()
    assert recipe.crops.size_px == 256
    assert (recipe.diffusion.dim, recipe.diffusion.dim_mults, recipe.diffusion.timesteps) == (64, (1, 2, 4, 8), 1000)
    assert (recipe.diffusion.schedule, recipe.diffusion.objective) == ("linear", "pred_noise")
    assert recipe.feature_timesteps() == (50, 100, 150)
    assert len(recipe.taps()) == 16
    assert recipe.interpreter.members == 10


def test_numbers_are_yaml_1_2(load: Load) -> None:
    recipe = load("training.rate=1e-4", "interpreter.rate=2E-3", more="training: {rate: 5e-4, crops: 1_000}\n")
    assert recipe.training.rate == 1e-4
    assert recipe.interpreter.rate == 2e-3
    assert load(more="training: {precision: no}\n").training.precision == "no"  # YAML 1.1 reads False


def test_values_are_frozen(load: Load) -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        load().training.batch = 3  # type: ignore[misc] # which is what the test is about


def test_overrides_come_last_and_in_order(load: Load) -> None:
    recipe = load(
        "training.batch=8",
        "training.batch=4",
        "diffusion.dim_mults=[1, 2]",
        "slides.mpp=null",
        "fill=cell",
        "folder=runs/a=b",
        more="training: {batch: 2, crops: 77}\nslides: {mpp: 0.5}\n",
    )
    assert (recipe.training.batch, recipe.training.crops) == (4, 77)
    assert recipe.diffusion.dim_mults == (1, 2)
    assert recipe.slides.mpp is None
    assert recipe.fill == "cell"
    assert recipe.folder == Path("runs/a=b")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.batch", r"override 'training\.batch': write section\.key=value"),
        ("=3", r"override '=3': write section\.key=value"),
        ("name.first=x", r"override 'name\.first=x': name is a single value, not a section"),
        ("training.batch=[1", r"override 'training\.batch=\[1': the value is not YAML \(.*\)\.$"),
        ("training.bach=3", r"training\.bach: unknown key"),
        ("trainin.batch=3", r"trainin: unknown key"),
    ],
)
def test_a_wrong_override_is_refused(load: Load, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load(override)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "trainig: {batch: 3}",
            r"tiny\.yaml: trainig: unknown key\. Remove it or mend its spelling \(`cytoseg recipe ex",
        ),
        ("training: {bacth: 3}", r"training\.bacth: unknown key"),
        ("slides: {background: {rul: otsu}}", r"slides\.background\.rul: unknown key"),
        ("training: {batch: 0}", r"training\.batch: Input should be greater than or equal to 1, found 0"),
        ("training: {batch: many}", r"training\.batch: Input should be a valid integer.*found 'many'"),
        ("training: {rate: 0}", r"training\.rate: Input should be greater than 0, found 0"),
        ("training: {ema_decay: 1}", r"training\.ema_decay: Input should be less than 1, found 1"),
        ("training: {device: gpu}", r"training\.device: .*found 'gpu'"),
        ("slides: {mpp: -0.5}", r"slides\.mpp: Input should be greater than 0, found -0\.5"),
        ("slides: {assume_mpp: -1}", r"slides\.assume_mpp: Input should be greater than 0, found -1$"),
        ("slides: {assume_mpp: [1]}", r"slides\.assume_mpp: Input should be a valid number, found \[1\]$"),
        ("slides: {assume_mpp: {a: 99}}", r"slides\.assume_mpp\.a: Input should be less.*20, found 99$"),
        ("slides: {background: {rule: black}}", r"slides\.background\.rule: .*'otsu'.*found 'black'"),
        ("crops: {size_px: 8}", r"crops\.size_px: .*16, found 8"),
        ("crops: {jitter: 0.6}", r"crops\.jitter: .*0\.5, found 0\.6"),
        ("diffusion: {dim: 20}", r"diffusion\.dim: .*multiple of 8, found 20"),
        ("diffusion: {dim_mults: [1]}", r"diffusion\.dim_mults: .*at least 2"),
        ("diffusion: {schedule: square}", r"diffusion\.schedule: .*found 'square'"),
        ("features: {timesteps: [-1]}", r"features\.timesteps\.0: .*found -1"),
        ("features: {scale: 3}", r"features\.scale: .*found 3"),
        ("interpreter: {members: 1}", r"interpreter\.members: .*2, found 1"),
        ("interpreter: {vote: loud}", r"interpreter\.vote: .*found 'loud'"),
        ("labels: {test_fraction: 1}", r"labels\.test_fraction: .*found 1"),
        ("review: {port: 80}", r"review\.port: .*1024, found 80"),
        ("slides:", r"slides: Input should be a valid dictionary.*found None"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_found(load: Load, more: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(more=more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("fill: glass", r"fill: 'glass' is not in the class list \(background, cell\)"),
        ("features: {timesteps: [50], snr_db: [9.3]}", r"features: give timesteps or snr_db, not both"),
        ("features: {timesteps: [50, 1000]}", r"features\.timesteps: 1000 is not below diffusion\.timesteps \(1000\)"),
        ("diffusion: {timesteps: 100}", r"features\.timesteps: 100 is not below diffusion\.timesteps \(100\)"),
        ("features: {timesteps: []}", r"features: taps and timesteps must not be empty"),
        ("features: {snr_db: []}", r"features: taps and timesteps must not be empty"),
        ("features: {taps: []}", r"features: taps and timesteps must not be empty"),
        (
            "features: {taps: [block4.block1]}",
            r"features\.taps: block4\.block1 not in this network\. It has block0\.bl",
        ),
        ("crops: {size_px: 100}", r"crops\.size_px: 100 is not a multiple of 8, as diffusion\.dim_mults needs"),
        ("predict: {tile_px: 100}", r"predict\.tile_px: 100 is not a multiple of 8"),
        ("predict: {tile_px: 64, overlap_px: 33}", r"predict\.overlap_px: 33 is more than half of tile_px"),
        (
            "diffusion: {timesteps: 20}",
            r"diffusion\.timesteps: 20 is too few for the linear schedule, which needs more",
        ),
    ],
)
def test_values_that_clash_are_refused(load: Load, more: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(more=more)


def test_a_class_named_twice_is_refused(load: Load) -> None:
    with pytest.raises(RecipeError, match=r"classes: a name stands twice in background, cell, cell"):
        load(more='  - {name: cell, colour: "#000000"}\n')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name: a\nclasses: [{name: b, colour: "#000000"}]', r"classes: .*at least 2 items"),
        (SMALLEST.replace("#0072b2", "blue"), r"classes\.1\.colour: .*found 'blue'"),
        (SMALLEST.replace("tiny", "../tiny"), r"name: .*found '\.\./tiny'"),
        (SMALLEST.replace("name: tiny\n", ""), r"name: Field required"),
        ("- a\n- b\n", r"tiny\.yaml: a recipe is a table of sections, found list\.$"),
        ("", r"a recipe is a table of sections, found NoneType"),
        ("name: [tiny\n", r"tiny\.yaml: not YAML \(.*\)\.$"),
        ("name: a\nname: b\n", r"not YAML \(.*duplicate key.*\)\.$"),
        ("name: !!python/object/apply:os.getcwd []\n", r"not YAML \(.*could not determine a constructor"),
    ],
)
def test_a_wrong_file_is_refused(load: Load, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load(text=text)
    assert "\n" not in str(caught.value)


def test_a_file_of_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(RecipeError, match=r"recipe\.yaml: not YAML \(.*can't decode"):
        load_recipe(str(path))


def test_all_problems_are_reported_together(load: Load) -> None:
    message = r"crops\.size: unknown key.*; training\.batch: .*found 0; speed: unknown key"
    with pytest.raises(RecipeError, match=message):
        load(more="training: {batch: 0}\ncrops: {size: 3}\nspeed: 1\n")


def test_a_linear_schedule_of_21_and_a_cosine_of_10_are_long_enough(load: Load) -> None:
    short = "features: {timesteps: [0, 9]}\n"
    assert load("diffusion.timesteps=21", more=short).diffusion.timesteps == 21
    assert load("diffusion.timesteps=10", "diffusion.schedule=cosine", more=short).diffusion.timesteps == 10


def test_noise_levels_may_be_given_in_decibels(load: Load) -> None:
    assert load("features.snr_db=[15.09, 9.31, 5.65]").feature_timesteps() == (50, 100, 150)
    assert load("features.snr_db=[9.31]", "diffusion.schedule=sigmoid").feature_timesteps() == (200,)
    assert load("features.timesteps=[7]").feature_timesteps() == (7,)


def test_taps_may_be_chosen(load: Load) -> None:
    assert load("features.taps=[block3.attention, block0.block1]").taps() == ("block3.attention", "block0.block1")


def test_the_class_list_has_colours_and_fill(load: Load) -> None:
    expected = ClassList(("background", "cell"), ((240, 240, 240), (0, 114, 178)), "background")
    assert load("fill=background").class_list() == expected
    assert load().class_list().fill is None


def test_the_architecture_is_what_decides_the_weights(load: Load) -> None:
    architecture = load("diffusion.dim=16", "diffusion.dim_mults=[1, 3]", "training.rate=0.01").architecture()
    assert architecture.as_json() == {
        "dim": 16,
        "dim_mults": [1, 3],
        "timesteps": 1000,
        "schedule": "linear",
        "objective": "pred_noise",
        "backbone": "lucidrains",
    }


def test_folders_follow_the_name_unless_given(load: Load) -> None:
    assert load().run_folder() == Path("runs/tiny")
    assert load().labels_folder() == Path("runs/tiny/labels")
    assert load("folder=out").labels_folder() == Path("out/labels")
    assert load("labels.folder=shared_labels").labels_folder() == Path("shared_labels")


def test_the_assumed_mpp_is_one_for_all_or_that_of_the_innermost_folder(load: Load, tmp_path: Path) -> None:
    assert load().slides.assumed_mpp(tmp_path / "a.png") is None
    assert load("slides.assume_mpp=0.5").slides.assumed_mpp(tmp_path / "a.png") == 0.5
    slides = load(f"slides.assume_mpp={{{tmp_path}: 1, {tmp_path}/fine: 0.4}}").slides
    assert slides.assumed_mpp(tmp_path / "a.png") == 1.0
    assert slides.assumed_mpp(tmp_path / "fine" / "a.png") == 0.4


def test_a_recipe_is_found_by_path_and_by_name(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(SMALLEST)
    assert find_recipe(str(mine)) == mine
    for name in ("cervical", "cervical.yaml"):
        assert find_recipe(name).read_text(encoding="utf-8").count("name: cervical") == 1


@pytest.mark.parametrize("name", ["cervcal", "other/cervical", "."])
def test_an_unknown_recipe_lists_those_there_are(name: str) -> None:
    with pytest.raises(RecipeError, match=r": no such recipe\. Give a YAML file, or one of cervical, lbc"):
        find_recipe(name)


def test_dump_and_load_give_the_same_recipe(load: Load) -> None:
    recipe = load("slides.folders=[a, b/c]", "training.rate=1e-5", "features.snr_db=[9.3]", "fill=cell")
    assert load(text=dump_recipe(recipe)) == recipe
    recipe = load("slides.assume_mpp={a/b: 0.4}")
    assert load(text=dump_recipe(recipe)) == recipe


def test_the_dump_holds_every_value(load: Load) -> None:
    dumped: dict[str, Any] = YAML(typ="safe").load(dump_recipe(load()))
    assert list(dumped) == list(Recipe.model_fields)
    assert dumped["diffusion"]["dim_mults"] == [1, 2, 4, 8]
    assert dumped["interpreter"]["vote"] == "soft"


def _undocumented(model: type[pydantic.BaseModel], where: str = "") -> list[str]:
    missing = []
    for name, field in model.model_fields.items():
        if not field.description:
            missing.append(where + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, pydantic.BaseModel):
            missing += _undocumented(field.annotation, f"{where}{name}.")
    return missing


def test_every_value_is_documented() -> None:
    assert _undocumented(Recipe) == []
