"""``interpreter.kind student`` in all relevant commands."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import Result

from cytoseg.interpreter.bundle import load_bundle
from cytoseg.interpreter.student import Student
from tests.end_to_end.conftest import cut_labels

TAUGHT = ("interpreter.kind=student", "student.teacher=mlps", "student.steps=2", "student.crops=2")


@pytest.mark.slow
def test_a_student_is_taught_evaluated_and_segments_slides(
    home: Path, part: str, cytoseg: Callable[..., Result]
) -> None:
    cut_labels(home)
    trained = cytoseg("train-interpreter", "tiny.yaml", *TAUGHT)
    assert trained.exit_code == 0, trained.output
    assert "2 MLPs on" in trained.stdout  # the teacher
    assert "Student trained on 2 labelled and 2 unlabelled crops." in trained.stdout
    folder = home / "runs" / "tiny"
    assert isinstance(load_bundle(folder / "interpreter" / "bundle").interpreter, Student)
    again = cytoseg("train-interpreter", "tiny.yaml", *TAUGHT[:2], "student.steps=1", "student.crops=2")
    assert "The teacher is up to date." in again.stdout
    assert cytoseg("evaluate", "tiny.yaml", *TAUGHT, "--no-baseline").exit_code == 0
    evaluation = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    assert evaluation["methods"][0]["title"].startswith("Student of")
    predicted = cytoseg("predict", "tiny.yaml", part, "--out", "found", *TAUGHT)
    assert predicted.exit_code == 0, predicted.output
    class_map = tifffile.imread("found/part/class_map.ome.tif")
    assert set(np.unique(class_map)) <= {0, 1, 2}


@pytest.mark.slow
def test_without_slides_a_student_learns_from_labelled_crops_alone(home: Path, cytoseg: Callable[..., Result]) -> None:
    trained = cytoseg("train-interpreter", "tiny.yaml", *TAUGHT, "slides.folders=[]", "slides.mpp=null")
    assert trained.exit_code == 0, trained.output
    assert "and 0 unlabelled crops." in trained.stdout
