from pathlib import Path

import pytest

from cytoseg.active_learning.queue_rules import read_rules, rules_of
from cytoseg.errors import RecipeError
from cytoseg.recipe import dump_recipe, load_recipe

OVERRIDES = (
    "labels.crop_px=192",
    "slides.mpp=0.5",
    'labels.test_slides=["*_a"]',
    "training.seed=3",
    "interpreter.kind=decoder",
)


@pytest.mark.parametrize("assumed", ["null", "0.25", "{slides: 0.25, slides/old: 0.5}"])
def test_the_rules_say_what_the_recipe_says(tmp_path: Path, assumed: str) -> None:
    recipe = load_recipe("quickstart", [*OVERRIDES, f"slides.assume_mpp={assumed}"])
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    for rules in (read_rules(tmp_path), rules_of(recipe.model_dump(mode="json"))):
        frame = rules.cutting.frame
        assert (frame.size_px, frame.mpp) == (192, 0.5)
        for path in (Path("slides/a.svs"), Path("slides/old/a.svs"), Path("elsewhere/a.svs")):
            assert frame.assumed_mpp(path) == recipe.slides.assumed_mpp(path)
        assert rules.cutting.classes == recipe.class_list()
        assert rules.test_slides == recipe.labels.test_slides == ("*_a",)
        assert (rules.test_fraction, rules.seed, rules.kind) == (recipe.labels.test_fraction, 3, "decoder")


@pytest.mark.parametrize("content", [None, "name: tiny\n", "- 1\n", "a: [", "crops: {size_px: many}\n"])
def test_a_recipe_that_cannot_be_used_is_one_sentence(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "recipe.yaml").write_text(content)
    with pytest.raises(
        RecipeError, match=r"^recipe\.yaml of this run cannot be used \(\w+\): .* `cytoseg queue RECIPE`"
    ):
        read_rules(tmp_path)
