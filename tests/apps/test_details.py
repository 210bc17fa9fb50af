"""Details below the scores: stains, objects and calibration."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

Review = Callable[..., AppTest]


@pytest.fixture
def detailed_run(made_run: Path) -> Path:
    """The made run with two stains, objects and three intervals of confidence, one of them empty."""
    path = made_run / "evaluation" / "evaluation.json"
    record: dict[str, Any] = json.loads(path.read_text())
    method = record["methods"][0]
    pooled = {key: method[key] for key in ("classes", "miou", "miou_low", "miou_high")}
    alone = {**pooled, "miou": 0.5, "miou_low": None, "miou_high": None}
    method["stains"] = [{"stain": "Giemsa", "slides": 1, **alone}, {"stain": "Pap", "slides": 2, **pooled}]
    empty = {"pixels": 0, "confidence": None, "right": None}
    full = [{"pixels": 10, "confidence": 0.5, "right": 0.4}, {"pixels": 90, "confidence": 0.9, "right": 0.95}]
    method["calibration"] = {"ece": 0.0551, "bins": [empty, *full]}
    method["calibration"]["classes"] = [0.01, 0.02, 0.03, None]
    whole = {"pixels": 1200, "error": 0.1, "aurc": 0.0234, "aurc_best": 0.0051, "found": 0.4}
    none = {"pixels": 0, "error": None, "aurc": None, "aurc_best": None, "found": None}
    curve = [step / 200 for step in range(1, 21)]
    method["uncertainty"] = [
        {"measure": name, "whole": whole, "classes": [whole] * 3 + [none], "curve": curve}
        for name in ("disagreement", "probability")
    ]
    counts = {"truth": 40, "predicted": 42, "matched": 37}
    shares = {"precision": 0.88, "recall": 0.925, "f1": 0.9, "aji": 0.7, "pq": 0.65, "sq": 0.72, "rq": 0.9}
    method["objects"] = {"nucleus": {**counts, **shares}}
    path.write_text(json.dumps(record))
    return made_run


def _charts(app: AppTest) -> list[list[dict[str, Any]]]:
    """Give what each chart of the page draws: bars of all methods, slides, stains if any, calibration if any."""
    return [json.loads(chart.proto.spec)["data"] for chart in app.get("plotly_chart")]


def _axis(app: AppTest, number: int) -> dict[str, Any]:
    axis: dict[str, Any] = json.loads(app.get("plotly_chart")[number].proto.spec)["layout"]["yaxis"]
    return axis


def _help(app: AppTest, label: str) -> str:
    return str(next(metric.help for metric in app.metric if metric.label == label)).replace("\\", "")


@pytest.mark.usefixtures("made_run")
def test_each_bar_is_as_high_as_its_score_and_each_error_bar_ends_where_the_interval_does(review: Review) -> None:
    bars = _charts(review("iou"))[0]
    assert [bar["name"] for bar in bars] == [
        "DDPM features, 10 interpreters",
        "Random forest on 72 filters",
        "Always the commonest class",
    ]
    assert bars[1]["x"] == ["Mean", "background", "cytoplasm", "nucleus", "debris"]
    assert bars[1]["y"] == [0.7758, 0.9552, 0.825, 0.5472, None]
    assert bars[1]["error_y"]["array"] == pytest.approx([0.04, 0, 0.01, 0.05, 0])
    assert bars[1]["error_y"]["arrayminus"] == pytest.approx([0.05, 0.01, 0.02, 0.06, 0])
    assert bars[2]["y"] == [0.2187, 0.6562, 0, 0, None]


def test_slides_are_drawn_worst_first_with_a_mark_for_each_class(review: Review, made_run: Path) -> None:
    path = made_run / "evaluation" / "evaluation.json"
    record: dict[str, Any] = json.loads(path.read_text())
    record["methods"][0]["slides"] = [
        {"slide": "best", "crops": 1, "miou": 0.9, "iou": [0.9, None, 0.8, None]},
        {"slide": "none", "crops": 1, "miou": None, "iou": [None] * 4},
        {"slide": "study_of_2026_slide_no_0017", "crops": 2, "miou": 0.3, "iou": [0.5, 0.1, 0.2, None]},
    ]
    path.write_text(json.dumps(record))
    app = review("iou")
    marks = _charts(app)[1]
    assert [mark["name"] for mark in marks] == ["background", "cytoplasm", "nucleus", "debris"]
    assert [mark["x"] for mark in marks] == [[0.5, 0.9], [0.1], [0.2, 0.8], []]
    assert [mark["y"] for mark in marks] == [[0, 1], [0], [0, 1], []]
    assert marks[2]["hovertext"] == ["study_of_2026_slide_no_0017, nucleus: 0.20", "best, nucleus: 0.80"]
    assert marks[2]["marker"]["color"] == "rgb(213,94,0)"
    assert len({mark["marker"]["symbol"] for mark in marks}) == 4
    assert _axis(app, 1)["ticktext"] == ["study_of…6_slide_no_0017", "best", "none"]
    assert _axis(app, 1)["range"] == [2.6, -0.6]
    assert "All slides, the lowest mean IoU first" in [caption.value[:37] for caption in app.caption]


def test_of_many_slides_the_worst_are_drawn_and_this_is_said(review: Review, made_run: Path) -> None:
    path = made_run / "evaluation" / "evaluation.json"
    record: dict[str, Any] = json.loads(path.read_text())
    record["methods"][0]["slides"] = [
        {"slide": f"s{number}", "crops": 1, "miou": 1 - number / 100, "iou": [1 - number / 100, None, None, None]}
        for number in range(31)
    ]
    path.write_text(json.dumps(record))
    app = review("iou")
    assert _axis(app, 1)["ticktext"] == [f"s{number}" for number in range(30, 0, -1)]
    assert _charts(app)[1][0]["x"] == pytest.approx([1 - number / 100 for number in range(30, 0, -1)])
    assert any(caption.value.startswith("The 30 worst of 31 slides") for caption in app.caption)


@pytest.mark.usefixtures("detailed_run")
def test_stains_are_drawn_with_intervals_and_their_classes_apart(review: Review) -> None:
    app = review("iou")
    marks = _charts(app)[2]
    assert _axis(app, 2)["ticktext"] == ["Giemsa", "Pap"]
    nucleus = marks[2]
    assert nucleus["x"] == [0.62, 0.62]
    assert nucleus["error_x"]["array"] == pytest.approx([0.06, 0.06])
    assert nucleus["error_x"]["arrayminus"] == pytest.approx([0.07, 0.07])
    assert marks[3]["x"] == []
    # Of four classes in a line of height 1: 0.15 apart, around the middle.
    assert [mark["y"] for mark in marks[:3]] == [
        pytest.approx([middle, middle + 1]) for middle in (-0.225, -0.075, 0.075)
    ]


@pytest.mark.usefixtures("detailed_run")
def test_stains_objects_and_calibration_of_the_ensemble(review: Review) -> None:
    app = review("iou")
    assert not app.exception
    stains = app.table[-2].value
    assert stains["Stain"].tolist() == ["Giemsa", "Pap"]
    assert stains["Mean IoU"].tolist() == ["0.50", "0.81 (0.76-0.85)"]
    (objects,) = (frame.value for frame in app.dataframe if "Matched" in frame.value)
    assert objects[["True", "Predicted", "Matched", "F1"]].to_numpy().tolist() == [[40, 42, 37, 0.9]]
    (ece,) = (metric.value for metric in app.metric if metric.label.startswith("Calibration"))
    assert ece == "0.055"
    perfect, found = _charts(app)[-2]
    assert (perfect["x"], perfect["y"]) == ([0, 1], [0, 1])
    # The interval without pixels has no point; the other two hold 10 and 90.
    assert (found["x"], found["y"]) == ([0.5, 0.9], [0.4, 0.95])
    assert found["marker"]["size"] == pytest.approx([6 + 16 / 3, 22])
    assert found["hovertext"] == ["said 50%, right 40%, 10 pixels", "said 90%, right 95%, 90 pixels"]
    assert "four in five should be right" in _help(app, "Calibration error (ECE)")


@pytest.mark.usefixtures("detailed_run")
def test_what_the_uncertainty_of_the_ensemble_is_worth(review: Review) -> None:
    app = review("iou")
    by_disagreement, by_probability = _charts(app)[-1]
    assert (by_disagreement["name"], by_probability["name"]) == ("disagreement", "stated probability")
    assert by_disagreement["x"] == pytest.approx([step / 20 for step in range(1, 21)])
    assert by_disagreement["y"] == pytest.approx([step / 200 for step in range(1, 21)])
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["AURC by disagreement"] == "0.0234"
    assert shown["Errors found in 5 %"] == "0.40"
    assert "5 % least certain ones" in _help(app, "Errors found in 5 %")
    assert "best 0.0051, by chance 0.1000" in [caption.value for caption in app.caption]
    table = app.table[-1].value
    assert table["ECE"].tolist() == ["0.0100", "0.0200", "0.0300", "n/a"]
    assert table["AURC, by disagreement"].tolist() == ["0.0234"] * 3 + ["n/a"]


@pytest.mark.usefixtures("detailed_run")
def test_a_method_without_them_shows_none(review: Review) -> None:
    app = review("iou")
    app.main.selectbox[0].select_index(1).run()
    assert not app.exception
    titles = [entry.value for entry in app.subheader]
    assert "By slide" in titles
    assert not {"By stain", "Objects", "Is it calibrated?", "Does the uncertainty find the errors?"} & set(titles)
