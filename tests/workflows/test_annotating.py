"""What the page Annotate refuses before it computes anything."""

from pathlib import Path

import numpy as np
import pytest

from cytoseg.classes import IGNORE
from cytoseg.errors import LabelError
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.workflows.annotating import Annotating, CropFile
from cytoseg.workflows.live_results import LiveResults

PICTURE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("marked", "is_test", "problem"),
    [
        ([2], False, "the train crops show one class, 'nucleus'; at least two classes are needed"),
        ([], False, "the train crops show no labelled pixel"),
        ([0, 1], True, "the train crops show no labelled pixel"),
    ],
)
def test_a_live_result_needs_two_classes_which_are_named(
    tmp_path: Path, marked: list[int], is_test: bool, problem: str
) -> None:
    recipe = load_recipe("quickstart", [f"folder={tmp_path}", f"slides.folders=[{tmp_path}]"])
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    ids = np.full((8, 8), IGNORE, np.uint8)
    ids[0, : len(marked)] = marked
    crop = CropFile(tmp_path / "a_0_0.png", "to_label", "a", is_test, None)
    with pytest.raises(LabelError, match=problem):
        LiveResults(Annotating(tmp_path)).view(crop, PICTURE, ids)
