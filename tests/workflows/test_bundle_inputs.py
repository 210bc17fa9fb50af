from pathlib import Path
from typing import Any

import pytest

from cytoseg.labels.index import LabelledCrop
from cytoseg.recipe import load_recipe
from cytoseg.workflows.bundle_inputs import training_inputs


def test_a_student_is_trained_again_after_a_change_to_its_teacher_or_to_the_unlabelled_slides() -> None:
    def origin(*changes: str) -> dict[str, Any]:
        return training_inputs(load_recipe("quickstart", ["interpreter.kind=student", *changes]), (), {})

    first, mlps = origin(), origin("student.teacher=mlps")
    assert origin("decoder.steps=7") != first  # the teacher is a decoder by default
    assert origin("student.teacher=mlps", "decoder.steps=7") == mlps != first
    assert origin("slides.background.rule=none") != first
    assert origin("predict.tile_px=64", "predict.overlap_px=16") != origin("predict.tile_px=64", "predict.overlap_px=8")
    assert origin("labels.crop_px=128") != first  # the unlabelled crops have the size of a tile
    assert origin("crops.size_px=32") != first
    labelled = origin("student.crops=0")
    assert origin("student.crops=0", "slides.background.rule=none") == labelled != first
    assert origin("student.crops=0", "decoder.unlabelled=1", "slides.background.rule=none")["unlabelled"] is not None


@pytest.mark.parametrize("kind", ["mlps", "segdiff"])
def test_a_kind_trained_on_labels_only_does_not_depend_on_the_unlabelled_slides(kind: str) -> None:
    recipe = load_recipe("quickstart", [f"interpreter.kind={kind}", "decoder.unlabelled=1"])
    inputs = training_inputs(recipe, (), {})
    assert inputs["unlabelled"] is None
    assert inputs["tiles"] is None


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("decoder", {"decoder": 40}), ("student", {"decoder": 40, "student": 40}), ("segdiff", {"segdiff": 40})],
)
def test_parts_that_small_crops_reduce_are_part_of_the_inputs(kind: str, wanted: dict[str, int]) -> None:
    recipe = load_recipe("quickstart", [f"interpreter.kind={kind}", "decoder.size_px=96", "segdiff.size_px=64"])

    def inputs(width: int, height: int) -> dict[str, Any]:
        crop = LabelledCrop(Path("there"), "a", "slide", width, height, "a.json", "1", "2", {}, 0)
        return training_inputs(recipe, (crop,), {})

    assert "part_px" not in inputs(96, 100)  # bundles of earlier versions are still up to date
    assert inputs(200, 40)["part_px"] == wanted
