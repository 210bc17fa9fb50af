"""Reading evaluation.json: the values, and a plain sentence for everything that can be wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cytoseg.errors import CytosegError
from cytoseg.evaluation.results_file import read_evaluation
from cytoseg.metrics.results import Evaluation, Risk, Score
from tests.shut import shut

Record = dict[str, Any]
MADE = Path(__file__).parents[1] / "apps" / "made_run"


@pytest.fixture
def record() -> Record:
    loaded: Record = json.loads((MADE / "evaluation" / "evaluation.json").read_text())
    return loaded


def _read(folder: Path, record: Record) -> Evaluation | None:
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "evaluation.json").write_text(json.dumps(record))
    return read_evaluation(folder)


def test_values() -> None:
    found = read_evaluation(MADE)
    assert found is not None
    assert found.class_names == ("background", "cytoplasm", "nucleus", "debris")
    assert found.colours[2] == (213, 94, 0)
    assert (found.train_crops, found.test_crops, found.test_slides) == (12, 6, 3)
    ensemble, forest, commonest = found.methods
    assert ensemble.classes[2].iou == Score(0.62, 0.55, 0.68)
    assert ensemble.classes[3].iou == Score(None, None, None)
    assert ensemble.confusion[2] == (20, 160, 620, 0)
    assert forest.train_s == 64.0
    assert commonest.train_s is None
    assert [slide.slide for slide in ensemble.slides] == ["smear_A", "smear_B", "smear_C"]
    assert found.crops[0].iou == (0.93, 0.78, 0.41, None)
    assert found.crops[0].folder == "crops/smear_A_0_512"


@pytest.mark.parametrize("what", ["", "evaluation.json"])
def test_an_evaluation_that_may_not_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record, what: str
) -> None:
    _read(tmp_path, record)
    shut(monkeypatch, tmp_path / "evaluation" / what)
    with pytest.raises(CytosegError, match=r"^evaluation\.json: cannot be read \(Permission denied\)\."):
        read_evaluation(tmp_path)


def test_a_run_without_evaluation_gives_none(tmp_path: Path) -> None:
    assert read_evaluation(tmp_path) is None


def test_not_a_number_means_not_applicable(tmp_path: Path, record: Record) -> None:
    record["methods"][0]["miou"] = float("nan")
    found = _read(tmp_path, record)
    assert found is not None
    assert found.methods[0].miou.value is None


def test_an_evaluation_from_before_objects_were_matched_has_none(tmp_path: Path, record: Record) -> None:
    assert "objects" not in record["methods"][0]
    found = _read(tmp_path, record)
    assert found is not None
    assert found.methods[0].objects == {}


def test_objects_without_their_numbers_are_refused(tmp_path: Path, record: Record) -> None:
    record["methods"][0]["objects"] = {"nucleus": {"truth": 3, "predicted": "many"}}
    with pytest.raises(CytosegError, match=r"method 1 has no usable 'predicted' \(found 'many'\)"):
        _read(tmp_path, record)


def test_a_file_cut_in_half(tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    text = (MADE / "evaluation" / "evaluation.json").read_text()
    (tmp_path / "evaluation" / "evaluation.json").write_text(text[: len(text) // 2])
    with pytest.raises(CytosegError, match=r"the file is not complete JSON.*cytoseg evaluate RECIPE"):
        read_evaluation(tmp_path)


def _set(*path: str | int, to: object) -> Callable[[Record], None]:
    def change(record: Record) -> None:
        part: Any = record
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("format", to=2), "has format 2, this version reads format 1"),
        (_set("test_crops", to="six"), "the file has no usable 'test_crops' \\(found 'six'\\)"),
        (_set("methods", 1, "title", to=None), "method 2 has no usable 'title'"),
        (_set("methods", 0, "classes", 0, "dice", to="good"), "method 1 has no usable 'dice' \\(found 'good'\\)"),
        (_set("methods", 0, "seconds", to={}), "method 1 has no usable 'train'"),
        (_set("methods", 0, "confusion", to=[[1]]), "method 1 has a confusion row that is not 4 whole numbers"),
        (_set("methods", 0, "confusion", to=[]), "method 1 has 4 classes and 0 confusion rows, expected 4"),
        (_set("methods", 0, "slides", 0, "iou", to=[0.5]), "method 1 has 1 values in 'iou', expected 4"),
        (_set("crops", 2, "iou", to=[]), "crop 3 has 0 values in 'iou', expected 4"),
        (_set("crops", 0, "folder", to="../../elsewhere"), "crop 1 has a folder outside the evaluation"),
        (_set("crops", 0, "folder", to="/etc"), "crop 1 has a folder outside the evaluation"),
        (_set("classes", 0, "colour", to=[1, 2, 256]), "classes has a colour that is not three numbers from 0 to 255"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, record: Record, change: Callable[[Record], None], message: str) -> None:
    change(record)
    with pytest.raises(CytosegError, match=message):
        _read(tmp_path, record)


def _measure(**changes: object) -> Record:
    whole = {"pixels": 100, "error": 0.1, "aurc": 0.02, "aurc_best": 0.005, "found": 0.4}
    none = {"pixels": 0, "error": None, "aurc": None, "aurc_best": None, "found": None}
    classes = [whole, none, none, none]
    return {"measure": "disagreement", "whole": whole, "classes": classes, "curve": [0.0] * 19 + [0.1], **changes}


def test_what_uncertainty_is_worth_is_read(tmp_path: Path, record: Record) -> None:
    record["methods"][0]["uncertainty"] = [_measure()]
    record["methods"][0]["calibration"] = {"ece": 0.02, "bins": [], "classes": [0.01, None, 0.3, 0.04]}
    found = _read(tmp_path, record)
    assert found is not None
    first, second, _ = found.methods
    (scores,) = first.uncertainty
    assert scores.measure == "disagreement"
    assert scores.whole == Risk(100, 0.1, 0.02, 0.005, 0.4)
    assert scores.classes[1] == Risk(0, None, None, None, None)
    assert scores.curve[-2:] == (0.0, 0.1)
    assert first.calibration is not None
    assert first.calibration.classes == (0.01, None, 0.3, 0.04)
    assert second.uncertainty == ()
    assert second.calibration is None


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"measure": "entropy"}, "has an unknown measure of uncertainty"),
        ({"classes": []}, "has a measure of uncertainty with 0 classes, expected 4"),
        ({"curve": [0.1]}, "has 1 values in 'curve', expected 20"),
        ({"whole": {"pixels": 3}}, "has no usable 'error'"),
        ({"whole": 3}, "has no usable 'whole'"),
    ],
)
def test_damaged_scores_of_uncertainty_are_named(
    tmp_path: Path, record: Record, changes: dict[str, object], what: str
) -> None:
    record["methods"][0]["uncertainty"] = [_measure(**changes)]
    with pytest.raises(CytosegError, match=rf"^evaluation\.json: method 1 {what}"):
        _read(tmp_path, record)
