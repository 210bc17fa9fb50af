"""The table that ``cytoseg evaluate`` prints."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from cytoseg.commands import evaluate
from cytoseg.evaluation.results_file import EvaluationInputs, EvaluationRecord, saved_evaluation, write_evaluation
from cytoseg.interpreter.bundle import Bundle
from cytoseg.labels.index import LabelledCrop
from cytoseg.labels.split import Split
from cytoseg.recipe import load_recipe


def _evaluation() -> dict[str, Any]:
    score = {"iou": 0.981, "iou_low": 0.972, "iou_high": 0.994}
    names = [{"name": name} for name in ("background", "cytoplasm", "nucleus")]
    method = {"classes": [score] * 3, "miou": 0.912, "miou_low": 0.903, "miou_high": 0.924}
    return {
        "classes": names,
        "test_crops": 16,
        "test_slides": 4,
        "methods": [{"title": "DDPM features, 10 MLPs", **method}, {"title": "Random forest, 72 filters", **method}],
    }


@pytest.mark.parametrize("width", [60, 80])
def test_no_digit_of_an_interval_is_cut_off(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    written = io.StringIO()
    monkeypatch.setattr(evaluate, "console", Console(file=written, width=width))
    evaluate._show(_evaluation())
    assert "…" not in written.getvalue()
    assert written.getvalue().count("(0.97-0.99") == 6
    assert written.getvalue().count("(0.90-0.9") == 2


def test_a_terminal_of_80_columns_shows_whole_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(evaluate, "console", Console(file=written, width=80))
    evaluate._show(_evaluation())
    assert written.getvalue().count("(0.97-0.99)") == 6
    assert written.getvalue().count("(0.90-0.92)") == 2


def test_without_labelled_pixels_there_is_no_calibration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(evaluate, "say", said.append)
    found = _evaluation()
    found["methods"][0]["calibration"] = {"ece": None}
    evaluate._show(found)
    assert said[1:] == ["Calibration error (ECE) of DDPM features, 10 MLPs: n/a"]


def test_objects_are_reported_where_they_were_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(evaluate, "say", said.append)
    found = _evaluation()
    shares = {"precision": 0.88, "recall": 0.925, "f1": 0.902, "aji": 0.712, "pq": None, "sq": 0.7, "rq": 0.902}
    found["methods"][1]["objects"] = {"nucleus": {"truth": 40, "predicted": 42, "matched": 37, **shares}}
    evaluate._show(found)
    assert said[1:] == [
        "Objects of Random forest, 72 filters, nucleus: 37 of 40 found, 5 false; F1 0.90, AJI 0.71, PQ n/a"
    ]


def test_what_uncertainty_is_worth_is_reported_where_it_was_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(evaluate, "say", said.append)
    found = _evaluation()
    whole = {"pixels": 900, "error": 0.05, "aurc": 0.0123, "aurc_best": 0.0012, "found": None}
    found["methods"][0]["uncertainty"] = [{"measure": "probability", "whole": whole, "classes": [], "curve": []}]
    evaluate._show(found)
    assert said[1:] == [
        "Uncertainty of DDPM features, 10 MLPs by stated probability: the 5 % least certain pixels hold n/a of the "
        "errors; AURC 0.0123 (best 0.0012, by chance 0.0500)"
    ]


def test_mean_iou_by_the_published_rules() -> None:
    found = _evaluation()
    found["methods"][0]["reference_miou"] = 0.494
    assert evaluate._as_published(found) == (
        "Mean IoU by the rules of the published figures (predictions on ignored pixels are false positives, a class in "
        "neither truth nor prediction has 0): DDPM features, 10 MLPs 0.49, Random forest, 72 filters n/a"
    )


def test_where_a_baseline_is_ahead_it_is_said_what_to_try() -> None:
    recipe = load_recipe("quickstart", ["features.extractors=[ddpm]", "training.init=null"])
    ours, forest = ({"title": title, "miou": miou} for title, miou in (("MLPs", 0.5), ("Forest", 0.6)))
    head, *tries = evaluate.advice({"train_crops": 16, "methods": [ours, forest]}, recipe, "q.yaml")
    assert head == "Forest scores higher: mean IoU 0.600, against 0.500. What to try:"
    assert tries[0] == "- join its filters to the features (features.extractors=[ddpm, filters])"
    assert any("cytoseg queue q.yaml" in text for text in tries)
    assert any("--init cytology-base" in text for text in tries)
    assert evaluate.advice({"train_crops": 16, "methods": [ours, {**forest, "miou": 0.5}]}, recipe, "q.yaml") == []
    assert evaluate.advice({"train_crops": 16, "methods": [ours]}, recipe, "q.yaml") == []


def _inputs(*changes: str, split: Callable[[Split], Split] = lambda split: split) -> EvaluationInputs:
    recipe = load_recipe("quickstart", list(changes))
    train = LabelledCrop(Path("there"), "a", "slide a", 64, 64, "a.json", "image a", "labels a", {}, 0)
    test = replace(train, crop="b", slide="slide b", image_sha256="image b", label_sha256="labels b")
    bundle = cast(Bundle, SimpleNamespace(origin={"labels": {"a": "labels a"}}, classes=recipe.class_list()))
    return evaluate._inputs(bundle, split(Split((train,), (test,))), recipe, baseline=True)


def _of_train(**changes: Any) -> Callable[[Split], Split]:
    return lambda split: replace(split, train=(replace(split.train[0], **changes),))


def _of_test(**changes: Any) -> Callable[[Split], Split]:
    return lambda split: replace(split, test=(replace(split.test[0], **changes),))


def test_an_evaluation_with_the_same_inputs_is_up_to_date_and_no_other(tmp_path: Path) -> None:
    inputs = _inputs()
    rest: dict[str, Any] = {"created": "now", "classes": (), "test_crops": 1, "test_slides": 1, "methods": ()}
    write_evaluation(tmp_path, EvaluationRecord(**vars(inputs), **rest, crops=()))
    path = tmp_path / "evaluation.json"
    found = saved_evaluation(path, _inputs())
    assert found is not None
    assert found["object_settings"]["classes"] == ["cytoplasm", "nucleus"]
    others = {
        "fill": _inputs("fill=null"),
        "objects": _inputs("objects.least_px=99"),
        "seed": _inputs("training.seed=7"),  # of the forest and the intervals
        "stains": _inputs("labels.stains={Pap: [b]}"),
        "colours": replace(inputs, class_colours=((1, 2, 3),)),
        "image of the forest": _inputs(split=_of_train(image_sha256="other")),
        "labels of the forest": _inputs(split=_of_train(label_sha256="other")),
        "test image": _inputs(split=_of_test(image_sha256="other")),
        "test labels": _inputs(split=_of_test(label_sha256="other")),
        "slide": _inputs(split=_of_test(slide="other")),
        "tiles": _inputs(split=_of_test(width=2000, height=2000)),
    }
    assert [what for what, other in others.items() if saved_evaluation(path, other) is not None] == []


@pytest.mark.parametrize(("change", "same"), [("predict.tile_px=128", False), ("predict.batch=3", True)])
def test_tiles_decide_the_evaluation_of_large_crops_only(change: str, same: bool) -> None:
    large = _of_test(width=2000, height=2000)
    assert (_inputs(change, split=large) == _inputs(split=large)) == same
    assert _inputs(change) == _inputs()
