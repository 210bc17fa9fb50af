import os
from pathlib import Path

import pytest

from cytoseg.errors import RecipeError
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.run_recipe import labels_folder, read_part, view_rules_of

OVERRIDES = ("slides.folders=[a, /b]", 'slides.include=["*.svs"]', 'slides.exclude=["*_old*"]')


def test_the_rules_say_what_the_recipe_says(tmp_path: Path) -> None:
    recipe = load_recipe("quickstart", OVERRIDES)
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    for rules in (read_part(tmp_path, view_rules_of), view_rules_of(recipe.model_dump(mode="json"))):
        assert rules.folders == recipe.slides.folders == (Path("a"), Path("/b"))
        assert rules.include == recipe.slides.include == ("*.svs",)
        assert rules.exclude == recipe.slides.exclude == ("*_old*",)
        assert rules.classes == recipe.class_list()


@pytest.mark.parametrize(("named", "place"), [("null", "runs/lab/labels"), ("shared", "base/shared"), ("/b", "/b")])
def test_labels_stand_in_the_run_unless_the_recipe_says_otherwise(tmp_path: Path, named: str, place: str) -> None:
    run = tmp_path / "runs" / "lab"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(dump_recipe(load_recipe("quickstart", [f"labels.folder={named}"])))
    assert labels_folder(run, tmp_path / "base") == tmp_path / place


def test_a_recipe_is_read_again_only_when_it_was_written(tmp_path: Path) -> None:
    path, read = tmp_path / "recipe.yaml", []

    def name(values: object) -> str:
        read.append(values)
        return str(values["name"])  # type: ignore[index] # the file below has it

    path.write_text("name: first")
    assert [read_part(tmp_path, name), read_part(tmp_path, name)] == ["first", "first"]
    path.write_text("name: second")
    os.utime(path, (1, 1))  # a clock may be too coarse to tell the two
    assert read_part(tmp_path, name) == "second"
    assert read == [{"name": "first"}, {"name": "second"}]


@pytest.mark.parametrize("damage", ['include: "*.svs"', "folders: 3", "exclude: {a: b}"])
def test_a_setting_of_another_type_is_refused(tmp_path: Path, damage: str) -> None:
    lines = dump_recipe(load_recipe("quickstart", ["slides.folders=[]", "slides.exclude=[]", "slides.include=[]"]))
    key = damage.partition(":")[0]
    assert f"  {key}: []" in lines
    (tmp_path / "recipe.yaml").write_text(lines.replace(f"  {key}: []", f"  {damage}"))
    with pytest.raises(RecipeError, match=r"^recipe\.yaml of this run cannot be used \(TypeError\)"):
        read_part(tmp_path, view_rules_of)
