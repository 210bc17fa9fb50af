from collections.abc import Callable

import pytest

from cytoseg.errors import RecipeError
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.recipe.keys import key_names, meant

Load = Callable[..., Recipe]


def test_every_key_and_section_is_named() -> None:
    names = list(key_names())
    assert {"name", "training", "training.batch", "slides.background.rule", "classes"} <= set(names)
    assert len(names) == len(set(names)) > 80


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("training.bach", "training.batch"),
        ("trainin", "training"),
        ("slides.folder", "slides.folders"),
        ("slides.background.rules", "slides.background.rule"),
        ("clases", "classes"),
        ("tile_px", "predict.tile_px"),  # in no section
        ("training.dropout", "interpreter.dropout"),  # in the wrong one
        ("slides.mmp", "slides.mpp"),
        ("training.zzz", None),
    ],
)
def test_the_key_that_was_meant(wrong: str, right: str | None) -> None:
    assert meant(wrong) == ("" if right is None else f" (did you mean '{right}'?)")


def test_a_misspelt_key_is_refused_with_the_right_one(load: Load) -> None:
    with pytest.raises(RecipeError, match=r"bach: unknown key \(did you mean 'training\.batch'\?\)\. Remove it"):
        load("training.bach=3")
    with pytest.raises(RecipeError, match=r"quikstart: no such recipe\. .* \(did you mean 'quickstart'\?\)\."):
        load_recipe("quikstart")
