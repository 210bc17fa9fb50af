"""The table that ``cytoseg evaluate`` prints."""

import io
from typing import Any

import pytest
from rich.console import Console

from cytoseg.commands import evaluate
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
