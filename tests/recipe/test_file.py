from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from cytoseg.errors import RecipeError
from cytoseg.recipe import Recipe, dump_recipe, find_recipe, load_recipe, recipe_of, update_recipe

Load = Callable[..., Recipe]


def test_numbers_are_yaml_1_2(load: Load) -> None:
    recipe = load("training.rate=1e-4", "interpreter.rate=2E-3", more="training: {rate: 5e-4, crops: 1_000}\n")
    assert recipe.training.rate == 1e-4
    assert recipe.interpreter.rate == 2e-3
    assert load(more="training: {precision: no}\n").training.precision == "no"  # YAML 1.1 reads False


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
    ("text", "message"),
    [
        ('name: a\nclasses: [{name: b, colour: "#000000"}]', r"classes: .*at least 2 items"),
        ("- a\n- b\n", r"tiny\.yaml: a recipe is a table of sections, found list\.$"),
        ("", r"tiny\.yaml: a recipe is a table of sections, found nothing\.$"),
        ("# no recipe\n", r"a recipe is a table of sections, found nothing\.$"),
        ("name: a\nclasses: b\n", r"classes: Input should be a list, such as \[a, b\], found 'b'"),
        ("name: '..'\nclasses: []\n", r"name: .*found '\.\.'"),  # the run folder would be the working folder
        ("name: .\nclasses: []\n", r"name: .*found '\.'"),
        ("name: [tiny\n", r"tiny\.yaml: not YAML \(.*\)\.$"),
        ("name: a\nname: b\n", r"not YAML \(.*duplicate key.*\)\.$"),
        ("name: !!python/object/apply:os.getcwd []\n", r"not YAML \(.*could not determine a constructor"),
    ],
)
def test_a_wrong_file_is_refused(load: Load, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load(text=text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("#0072b2", "blue", r"classes\.1\.colour: .*found 'blue'"),
        ("tiny", "../tiny", r"name: .*found '\.\./tiny'"),
        ("name: tiny\n", "", r"name: Field required"),
    ],
)
def test_a_file_with_one_wrong_part_is_refused(load: Load, smallest: str, right: str, wrong: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load(text=smallest.replace(right, wrong))
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


def test_a_recipe_is_found_by_path_and_by_name(tmp_path: Path, smallest: str) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(smallest)
    assert find_recipe(str(mine)) == mine
    for name in ("cervical", "cervical.yaml"):
        assert find_recipe(name).read_text(encoding="utf-8").count("name: cervical") == 1


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("cervcal", "mylab.yaml"),
        ("other/cervical", "mylab.yaml"),
        (".", "mylab.yaml"),
        ("my lab.yaml", "'my lab.yaml'"),
    ],
)
def test_an_unknown_recipe_lists_those_there_are_and_says_how_to_write_one(name: str, own: str) -> None:
    with pytest.raises(
        RecipeError, match=r": no such recipe\. Give a YAML file, or one of .*, cervical, cytology-"
    ) as e:
        find_recipe(name)
    assert str(e.value).endswith(f". For your own slides write one with `cytoseg recipe new {own}`.")


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


COMMENTED = """\
# What it is for.
name: tiny   # its name

training:
  rate: 4e-4
  crops: 1_000_000    # many
  precision: no
classes:
  - {name: background, colour: "#f0f0f0"}
  - {name: cell, colour: '#0072b2'}
features:                    # chosen with care
  taps: [block2.block1, block3.block1]
  timesteps: [0]             # little noise
  # the end
"""


def _updated(tmp_path: Path, text: str, changes: dict[str, Any]) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    update_recipe(path, changes)
    load_recipe(str(path))
    return path.read_text(encoding="utf-8")


def test_an_update_changes_its_values_and_nothing_else(tmp_path: Path) -> None:
    changes = {"features.taps": ("block0.block1", "block3.block2"), "features.timesteps": (0, 50, 100)}
    found = _updated(tmp_path, COMMENTED, changes).splitlines()
    old = COMMENTED.splitlines()
    changed = [i for i, (a, b) in enumerate(zip(old, found, strict=True)) if a != b]
    assert [old[i].split(":")[0] for i in changed] == ["  taps", "  timesteps"]
    assert found[changed[0]] == "  taps: [block0.block1, block3.block2]"
    assert " ".join(found[changed[1]].split()) == "timesteps: [0, 50, 100] # little noise"


def test_an_update_without_a_change_leaves_every_byte(tmp_path: Path) -> None:
    assert _updated(tmp_path, COMMENTED, {"features.timesteps": [0]}) == COMMENTED


@pytest.mark.parametrize("more", ["", "features: {}\n", "features: {taps: all}\n", "features:\n"])
def test_an_update_adds_what_is_not_there(tmp_path: Path, smallest: str, more: str) -> None:
    changes = {"features.timesteps": (0, 10), "features.extractors": ("ddpm", "filters"), "features.snr_db": None}
    _updated(tmp_path, smallest + more, changes)
    features = load_recipe(str(tmp_path / "mine.yaml")).features
    assert (features.taps, features.timesteps, features.extractors) == ("all", (0, 10), ("ddpm", "filters"))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("filters: true", ("ddpm", "filters")),
        ("filters: false", ("ddpm",)),
        ("extractors: [pretrained, ddpm]", ("ddpm", "pretrained")),
    ],
)
def test_extractors_are_named_and_the_key_of_before_is_read(
    tmp_path: Path, smallest: str, said: str, expected: tuple[str, ...]
) -> None:
    (tmp_path / "mine.yaml").write_text(f"{smallest}features: {{{said}}}\n", encoding="utf-8")
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert recipe.features.extractors == expected
    assert recipe_of(recipe.model_dump(mode="json"), (), where=tmp_path).features == recipe.features


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "extractors: [gabor]",
            r"features\.extractors\.0: Input should be 'ddpm', 'filters' or 'pretrained', found 'ga",
        ),
        ("extractors: [filters, ddpm, filters]", r"features\.extractors: filters appears twice"),
        ("extractors: []", r"features\.extractors: name at least one of ddpm, filters, pretrained"),
        ("extractors: [ddpm], filters: true", r"features\.filters: unknown key"),
        ("filters: some", r"features\.filters: unknown key"),
    ],
)
def test_wrong_extractors_are_refused(tmp_path: Path, smallest: str, said: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"{smallest}features: {{{said}}}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(str(tmp_path / "mine.yaml"))
    assert "\n" not in str(caught.value)


def test_an_update_gives_filters_its_present_name_in_place(tmp_path: Path) -> None:
    text = COMMENTED.replace("  timesteps:", "  filters: true    # they help\n  timesteps:")
    found = _updated(tmp_path, text, {"features.extractors": ("filters", "pretrained")})
    expected = text.replace("filters: true    # they help", "extractors: [filters, pretrained] # they help")
    assert [" ".join(line.split()) for line in found.splitlines()] == [
        " ".join(line.split()) for line in expected.splitlines()
    ]


def test_an_update_can_go_into_another_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(COMMENTED, encoding="utf-8")
    update_recipe(path, {"features.taps": "all"}, to=tmp_path / "new" / "theirs.yaml")
    assert path.read_text(encoding="utf-8") == COMMENTED
    assert "  taps: all\n" in (tmp_path / "new" / "theirs.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        (COMMENTED, {"features.timesteps": (1000,)}, r"mine\.yaml: features\.timesteps: 1000 is not below"),
        (COMMENTED, {"features.tap": "all"}, r"mine\.yaml: features\.tap: unknown key"),
        ("- a\n", {"features.taps": "all"}, r"mine\.yaml: a recipe is a table of sections, found CommentedSeq"),
        ("a: [\n", {"features.taps": "all"}, r"mine\.yaml: not YAML"),
    ],
)
def test_a_wrong_update_changes_nothing(tmp_path: Path, text: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        _updated(tmp_path, text, changes)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.yaml"]
    assert (tmp_path / "mine.yaml").read_text(encoding="utf-8") == text
