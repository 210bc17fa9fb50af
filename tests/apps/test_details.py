"""What stands below the scores: stains, objects and calibration, where there are any."""

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
    counts = {"truth": 40, "predicted": 42, "matched": 37}
    shares = {"precision": 0.88, "recall": 0.925, "f1": 0.9, "aji": 0.7, "pq": 0.65, "sq": 0.72, "rq": 0.9}
    method["objects"] = {"nucleus": {**counts, **shares}}
    path.write_text(json.dumps(record))
    return made_run


@pytest.mark.usefixtures("detailed_run")
def test_stains_objects_and_calibration_of_the_ensemble(review: Review) -> None:
    app = review("iou")
    assert not app.exception
    stains = app.table[-1].value
    assert stains["Stain"].tolist() == ["Giemsa", "Pap"]
    assert stains["Mean IoU"].tolist() == ["0.50", "0.81 (0.76-0.85)"]
    (objects,) = (frame.value for frame in app.dataframe if "Matched" in frame.value)
    assert objects[["True", "Predicted", "Matched", "F1"]].to_numpy().tolist() == [[40, 42, 37, 0.9]]
    (ece,) = (metric.value for metric in app.metric if metric.label.startswith("Calibration"))
    assert ece == "0.055"


@pytest.mark.usefixtures("detailed_run")
def test_a_method_without_them_shows_none(review: Review) -> None:
    app = review("iou")
    app.main.selectbox[0].select_index(1).run()
    assert not app.exception
    titles = [entry.value for entry in app.subheader]
    assert "By slide" in titles
    assert not {"By stain", "Objects", "Can its probabilities be believed?"} & set(titles)
