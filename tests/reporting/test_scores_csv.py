"""The CSV of scores compared with the evaluation's file."""

import csv
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from cytoseg.evaluation.results_file import read_evaluation
from cytoseg.metrics.results import Calibration, Evaluation, ObjectScores, Risk, Score, StainScores, UncertaintyScores
from cytoseg.reporting.scores_csv import HEAD, scores_csv

MADE = Path(__file__).parents[1] / "apps" / "made_run"
ENSEMBLE = "DDPM features, 10 interpreters"
Place = tuple[str, str, str, str, str]


@pytest.fixture
def evaluation() -> Evaluation:
    """The made evaluation, its ensemble with a calibration error and one stain of two slides."""
    found = read_evaluation(MADE)
    assert found is not None
    first, *others = found.methods
    stain = StainScores("Pap", 2, Score(0.5, 0.4, 0.6), first.classes)
    return replace(found, methods=(replace(first, calibration=Calibration(0.0551), stains=(stain,)), *others))


def _lines(text: str) -> dict[Place, list[str]]:
    """Give the numbers of each line, by its texts."""
    head, *rows = list(csv.reader(StringIO(text, newline="")))
    assert tuple(head) == HEAD
    found = {(row[0], row[1], row[2], row[3], row[4]): row[5:] for row in rows}
    assert len(found) == len(rows)
    return found


def test_every_score_of_the_file_stands_in_a_line(evaluation: Evaluation) -> None:
    record: dict[str, Any] = json.loads((MADE / "evaluation" / "evaluation.json").read_text())
    lines = _lines(scores_csv(evaluation))

    def numbers(place: Place) -> list[float | None]:
        return [float(text) if text else None for text in lines[place]]

    for method in record["methods"]:
        title = method["title"]
        mean = [method["miou"], method["miou_low"], method["miou_high"], 6, 3]
        assert numbers(("all", "", title, "", "mean IoU")) == mean
        for scores in method["classes"]:
            whole = ("all", "", title, scores["name"])
            assert numbers((*whole, "IoU")) == [scores["iou"], scores["iou_low"], scores["iou_high"], 6, 3]
            for measure, key in (("Dice", "dice"), ("precision", "precision"), ("recall", "recall")):
                assert numbers((*whole, measure)) == [scores[key], None, None, 6, 3]
            assert numbers((*whole, "true pixels")) == [scores["pixels"], None, None, 6, 3]
        for slide in method["slides"]:
            place = ("slide", slide["slide"], title)
            assert numbers((*place, "", "mean IoU")) == [slide["miou"], None, None, slide["crops"], 1]
            for scores, iou in zip(record["classes"], slide["iou"], strict=True):
                assert numbers((*place, scores["name"], "IoU")) == [iou, None, None, slide["crops"], 1]
    # For each of three methods: 1 + 4 x 5 + 3 numbers of all crops, 1 + 4 of each slide; and 1 + 4 x 5 of the stain.
    assert len(lines) == 3 * (24 + 3 * 5) + 21


def test_calibration_times_and_stains(evaluation: Evaluation) -> None:
    lines = _lines(scores_csv(evaluation))
    assert lines[("all", "", ENSEMBLE, "", "calibration error (ECE)")] == ["0.0551", "", "", "6", "3"]
    assert lines[("all", "", ENSEMBLE, "", "training (s)")] == ["252.4", "", "", "6", "3"]
    assert lines[("all", "", "Always the commonest class", "", "training (s)")] == ["", "", "", "6", "3"]
    assert lines[("all", "", ENSEMBLE, "", "prediction (s)")] == ["31.2", "", "", "6", "3"]
    assert lines[("stain", "Pap", ENSEMBLE, "", "mean IoU")] == ["0.5", "0.4", "0.6", "", "2"]
    assert lines[("stain", "Pap", ENSEMBLE, "nucleus", "IoU")] == ["0.62", "0.55", "0.68", "", "2"]


def test_objects_have_lines_of_their_own(evaluation: Evaluation) -> None:
    first, *others = evaluation.methods
    shares = {"precision": 0.8, "recall": 0.5, "f1": 0.615, "aji": 0.44, "pq": 0.41, "sq": 0.67, "rq": 0.615}
    objects = ObjectScores(truth=8, predicted=5, matched=4, **shares)
    lines = _lines(scores_csv(replace(evaluation, methods=(replace(first, objects={"nucleus": objects}), *others))))
    found = {place[4]: row[0] for place, row in lines.items() if place[4].startswith("objects: ")}
    counts = {"objects: true": "8", "objects: predicted": "5", "objects: matched": "4"}
    named = {"objects: precision": "0.8", "objects: recall": "0.5", "objects: F1": "0.615"}
    assert found == counts | named | {"objects: aggregated Jaccard": "0.44", "objects: panoptic quality": "0.41"}


def test_names_that_begin_a_formula_are_made_inert(evaluation: Evaluation) -> None:
    first, *others = evaluation.methods
    slides = (replace(first.slides[0], slide='=HYPERLINK("http://x")'), *first.slides[1:])
    classes = (replace(first.classes[0], name="@SUM(A1)"), *first.classes[1:])
    stains = (replace(first.stains[0], stain="+1", classes=classes),)
    method = replace(first, title="-1+1", slides=slides, classes=classes, stains=stains)
    names = ("@SUM(A1)", *evaluation.class_names[1:])
    places = _lines(scores_csv(replace(evaluation, class_names=names, methods=(method, *others))))
    assert ("slide", '\'=HYPERLINK("http://x")', "'-1+1", "'@SUM(A1)", "IoU") in places
    assert ("stain", "'+1", "'-1+1", "'@SUM(A1)", "recall") in places
    assert not [text for place in places for text in place if text[:1] in ("=", "+", "-", "@")]


def test_uncertainty_has_two_lines_for_each_measure(evaluation: Evaluation) -> None:
    first, *others = evaluation.methods
    scores = UncertaintyScores("probability", Risk(100, 0.1, 0.02, 0.005, None), (), ())
    lines = _lines(scores_csv(replace(evaluation, methods=(replace(first, uncertainty=(scores,)), *others))))
    assert lines[("all", "", ENSEMBLE, "", "AURC by stated probability")] == ["0.02", "", "", "6", "3"]
    assert lines[("all", "", ENSEMBLE, "", "errors in the least certain 5 % by stated probability")][0] == ""
