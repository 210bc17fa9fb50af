"""History: choice of earlier evaluations, and the comparison."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from cytoseg.evaluation.history import earlier_kept

Review = Callable[..., AppTest]


def _again(run: Path) -> None:
    """Evaluate the run once more, an hour later, with one more crop and a better nucleus on one slide."""
    path = run / "evaluation" / "evaluation.json"
    record: dict[str, Any] = json.loads(path.read_text())
    record["bundle"] = {"labels": {"a": "1", "b": "2"}, "interpreter": {"steps": 600}}
    path.write_text(json.dumps(record))
    method = record["methods"][0]
    method["miou"] += 0.05
    method["classes"][2]["iou"] += 0.1
    method["slides"][0]["miou"] -= 0.2
    record["created"] = "2099-01-01T00:00:00+00:00"
    record["bundle"] = {"labels": {"a": "1", "b": "3", "c": "4"}, "interpreter": {"steps": 900}}
    with earlier_kept(run):
        path.write_text(json.dumps(record))


def _texts(app: AppTest) -> str:
    parts = [*app.main.markdown, *app.caption, *app.info, *app.error]
    return "\n".join(str(part.value) for part in parts).replace("\\", "")


@pytest.mark.usefixtures("made_run")
def test_without_an_earlier_evaluation_it_says_what_to_do(review: Review) -> None:
    app = review("history")
    assert not app.exception
    assert "There is no earlier evaluation to compare with." in _texts(app)


def test_the_change_and_what_may_explain_it(review: Review, made_run: Path) -> None:
    _again(made_run)
    app = review("history")
    assert not app.exception
    (choice,) = app.main.selectbox
    assert choice.options[0].startswith("quickstart, ")
    said = _texts(app)
    assert "Mean IoU rose from 0.81 to 0.86." in said
    assert "Crops trained with**: 1 added, 1 relabelled" in said
    classes, slides = (table.value for table in app.table)
    assert classes["Change"].tolist() == ["+0.05", "+0.00", "+0.00", "+0.10", "n/a"]
    assert slides["Slide"].tolist()[0] == "smear\\_A"
    assert slides["Change"].tolist()[0] == "-0.20"
    (bars,) = json.loads(app.get("plotly_chart")[0].proto.spec)["data"]
    assert bars["y"] == ["Mean IoU", "background", "cytoplasm", "nucleus", "debris"]
    assert bars["x"] == pytest.approx([0.05, 0, 0, 0.1, 0])
    assert bars["text"] == ["+0.05", "+0.00", "+0.00", "+0.10", "n/a"]
    (settings,) = (frame.value for frame in app.dataframe if "Setting" in frame.value)
    assert settings.to_numpy().tolist() == [["interpreter, steps", "600", "900"]]


def test_only_what_was_evaluated_before_is_offered(review: Review, made_run: Path) -> None:
    """The made run is of 2026-03-02 10:20:30 UTC."""
    other = made_run.parent / "other"
    source = made_run / "evaluation" / "evaluation.json"
    record = json.loads(source.read_text())
    moments = {
        "before in another zone": "2026-03-02T12:20:29+02:00",
        "at the same moment": "2026-03-02T11:20:30+01:00",
        "later": "2026-03-02T10:20:31+00:00",
        "no time": "yesterday",
    }
    for name, moment in moments.items():
        run = other.with_name(name)
        (run / "evaluation").mkdir(parents=True)
        (run / "recipe.yaml").touch()
        (run / "evaluation" / "evaluation.json").write_text(json.dumps(record | {"created": moment}))
    app = review("history", "--run", str(made_run))
    assert not app.exception
    options = app.main.selectbox[0].options
    assert [option.split(",")[0] for option in options] == ["before in another zone"]
    app.sidebar.selectbox[0].select("later").run()
    names = {option.split(",")[0] for option in app.main.selectbox[0].options}
    assert names == {"quickstart", "before in another zone", "at the same moment"}


def test_other_runs_can_be_compared_with_and_damaged_ones_are_not_offered(
    review: Review, made_run: Path, bare_run: Path
) -> None:
    (bare_run / "evaluation").mkdir()
    record = json.loads((made_run / "evaluation" / "evaluation.json").read_text())
    record["created"] = "2026-03-02T10:20:29+00:00"
    (bare_run / "evaluation" / "evaluation.json").write_text(json.dumps(record))
    (bare_run / "history").mkdir()
    (bare_run / "history" / "2020.json").write_text('{"format"')
    app = review("history")
    assert not app.exception
    assert [option.split(",")[0] for option in app.main.selectbox[0].options] == ["only a recipe"]
    assert "Mean IoU stayed at 0.81." in _texts(app)
