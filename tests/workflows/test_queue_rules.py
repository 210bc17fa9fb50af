from pathlib import Path

import pytest

from cytoseg.recipe import load_recipe
from cytoseg.workflows.queue_rules import queue_rules

OVERRIDES = (
    "labels.crop_px=192",
    "slides.mpp=0.5",
    'labels.test_slides=["*_a"]',
    "training.seed=3",
    "interpreter.kind=decoder",
)


@pytest.mark.parametrize(
    ("assumed", "mpp"),
    [("null", (None, None, None)), ("0.25", (0.25,) * 3), ("{slides: 0.25, slides/old: 0.5}", (0.25, 0.5, None))],
)
def test_the_rules_say_what_the_recipe_says(assumed: str, mpp: tuple[float | None, ...]) -> None:
    recipe = load_recipe("quickstart", [*OVERRIDES, f"slides.assume_mpp={assumed}"])
    rules = queue_rules(recipe)
    frame = rules.cutting.frame
    assert (frame.size_px, frame.slides.mpp) == (192, 0.5)
    paths = (Path("slides/a.svs"), Path("slides/old/a.svs"), Path("elsewhere/a.svs"))
    assert tuple(frame.slides.assumed_mpp(path) for path in paths) == mpp
    assert rules.cutting.classes == recipe.class_list()
    assert rules.labels.test_slides == ("*_a",)
    assert (rules.labels.test_fraction, rules.seed, rules.kind) == (recipe.labels.test_fraction, 3, "decoder")
