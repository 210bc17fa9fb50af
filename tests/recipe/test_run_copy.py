import os
from pathlib import Path

import pytest

from cytoseg.errors import RecipeError
from cytoseg.recipe import dump_recipe, labels_of_run, load_recipe, recipe_of_run


def test_the_copy_is_the_recipe(tmp_path: Path) -> None:
    recipe = load_recipe("quickstart", ["slides.folders=[a, /b]", "training.seed=3"])
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    assert recipe_of_run(tmp_path) == recipe


@pytest.mark.parametrize(("named", "place"), [("null", "runs/lab/labels"), ("shared", "base/shared"), ("/b", "/b")])
def test_labels_stand_in_the_run_unless_the_recipe_says_otherwise(tmp_path: Path, named: str, place: str) -> None:
    run = tmp_path / "runs" / "lab"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(dump_recipe(load_recipe("quickstart", [f"labels.folder={named}"])))
    assert labels_of_run(run, tmp_path / "base") == tmp_path / place


def test_a_recipe_is_read_again_only_when_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(load_recipe("quickstart")))
    first = recipe_of_run(tmp_path)
    assert recipe_of_run(tmp_path) is first
    path.write_text(dump_recipe(load_recipe("quickstart", ["name=second"])))
    os.utime(path, (1, 1))  # a clock may be too coarse to tell the two
    assert recipe_of_run(tmp_path).name == "second"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "it is missing"),
        ("name: tiny\n", "classes: Field required"),
        ("- 1\n", "a recipe is a table of sections, found list"),
        ("a: [", "not YAML"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_one_sentence(tmp_path: Path, content: str | None, why: str) -> None:
    if content is not None:
        (tmp_path / "recipe.yaml").write_text(content)
    with pytest.raises(
        RecipeError, match=r"^recipe\.yaml of this run cannot be used \(.*\): .* `cytoseg queue RECIPE`"
    ) as found:
        recipe_of_run(tmp_path)
    assert why in str(found.value)
