"""What the page Annotate refuses before it computes anything."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cytoseg.classes import IGNORE
from cytoseg.diffusion.unet import build_unet
from cytoseg.errors import LabelError
from cytoseg.features.extract import to_input
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.workflows.annotating import Annotating, CropFile
from cytoseg.workflows.live_results import LiveResults

PICTURE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("marked", "is_test", "problem"),
    [
        ([2], False, "only 'nucleus' is marked in crops that are not for testing"),
        ([], False, "nothing is marked in crops that are not for testing"),
        ([0, 1], True, "nothing is marked in crops that are not for testing"),
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


@pytest.mark.parametrize(("kind", "extractors"), [("segdiff", "ddpm"), ("decoder", "filters"), ("mlps", "ddpm")])
def test_the_mlps_of_the_page_get_the_features_of_the_recipe_whatever_its_interpreter(
    tmp_path: Path, kind: str, extractors: str
) -> None:
    small = ["training.init=null", "diffusion.backbone=lucidrains", "diffusion.dim=8", "diffusion.dim_mults=[1,2]"]
    changes = [f"interpreter.kind={kind}", f"features.extractors=[{extractors}]", "training.device=cpu"]
    recipe = load_recipe("quickstart", [f"folder={tmp_path}", *small, *changes])
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    results = LiveResults(Annotating(tmp_path))
    if extractors == "ddpm":  # otherwise there is no network, and none is looked for
        results._network = build_unet(recipe.architecture()).eval(), recipe.architecture()
    found = results._live._extractor(to_input(PICTURE[None]))
    assert [native.shape[1] for native in found.maps] == results._live._extractor.channels
    assert all(bool(torch.isfinite(native).all()) for native in found.maps)
