from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.labels.index import CropName, LabelIndex, write_crop, write_index
from cytoseg.recipe import load_recipe
from cytoseg.workflows.crop_split import split_of

CLASSES = ClassList(("background", "cell"), ((240, 240, 240), (0, 114, 178)), "background")
TESTS = 'labels.test_slides=["b", "c"]'


def _write_labels(*marked: str) -> None:
    """Write a labelled crop each of the slides a, b, c; those named were corrected from a prediction."""
    folder = Path("runs/tiny/labels")
    crops = [
        write_crop(
            folder,
            CropName(f"{slide}_0", slide, f"{slide}.json"),
            picture=np.zeros((4, 4, 3), np.uint8),
            label_map=np.eye(4, dtype=np.uint8),
            classes=CLASSES,
        )
        for slide in "abc"
    ]
    crops = [replace(crop, from_prediction=crop.slide in marked) for crop in crops]
    write_index(LabelIndex(folder, CLASSES.names, tuple(crops)))


def test_corrected_test_crops_are_scored_unless_told_otherwise(cytoseg: Callable[..., Result]) -> None:
    _write_labels("a", "b")
    split = split_of(load_recipe("tiny.yaml", [TESTS]))
    assert [(crop.crop, crop.from_prediction) for crop in split.test] == [("b_0", True), ("c_0", False)]
    split = split_of(load_recipe("tiny.yaml", [TESTS, "labels.score_corrected=false"]))
    assert [crop.crop for crop in split.test] == ["c_0"]
    assert [crop.crop for crop in split.train] == ["a_0"]  # to learn from they are as good as any


def test_without_any_other_test_crop_nothing_can_be_scored(cytoseg: Callable[..., Result]) -> None:
    _write_labels("b", "c")
    with pytest.raises(LabelError, match=r"score_corrected=false: all 2 test crops were corrected from a prediction"):
        split_of(load_recipe("tiny.yaml", [TESTS, "labels.score_corrected=false"]))
