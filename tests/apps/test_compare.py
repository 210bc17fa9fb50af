"""Two predictions of a slide, of two runs or versions, on the page Slides: what is offered and shown."""

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from cytoseg.classes import ClassList
from cytoseg.predict.kept_versions import keep_version
from tests.apps.sighted import told_viewer

GREY = (128, 128, 128)


@pytest.fixture
def page(review: Callable[..., AppTest], tmp_path: Path, sighted: Path) -> Callable[[], AppTest]:
    """Open the page over a run and its copy, named another."""
    shutil.copytree(sighted, sighted.with_name("another"))

    def opened() -> AppTest:
        app = review("slides", "--base", str(tmp_path), "--run", str(sighted))
        assert not app.exception, app.exception
        return app

    return opened


def _offered(app: AppTest) -> Any:
    return next(box for box in app.main.selectbox if box.label == "Compare with")


def test_another_run_is_laid_beside_this_one(page: Callable[[], AppTest]) -> None:
    app = page()
    assert told_viewer(app)["compare"] == ""
    assert _offered(app).options == ["Nothing", "another"]
    _offered(app).select("another").run()
    told = told_viewer(app)
    assert (told["compare"], told["titles"]) == ("swipe", ["sighted", "another"])
    assert [(one["side"], one["address"], one["opacity"]) for one in told["layers"]] == [
        (0, "/tiles/sighted/classes/board", 0.5),
        (0, "/tiles/sighted/uncertainty/board", 0.0),
        (0, "/tiles/sighted/truth/board", 0.0),
        (1, "/tiles/another/classes/board", 0.5),
        (1, "/tiles/another/uncertainty/board", 0.0),
    ]
    app.segmented_control[0].set_value("Side by side").run()
    assert told_viewer(app)["compare"] == "side"
    _offered(app).select("Nothing").run()
    assert (told_viewer(app)["compare"], len(told_viewer(app)["layers"])) == ("", 3)


def test_a_run_that_predicted_another_file_is_refused(page: Callable[[], AppTest], sighted: Path) -> None:
    summary = sighted.with_name("another") / "predictions" / "board" / "summary.json"
    record = json.loads(summary.read_text())
    record["provenance"]["slide_bytes"] += 1
    summary.write_text(json.dumps(record))
    app = page()
    _offered(app).select("another").run()
    said = app.warning[0].value.replace("\\", "")
    assert said.startswith("another: predicted another file named board")
    assert told_viewer(app)["compare"] == ""


def test_a_damaged_map_of_the_other_run_is_said_in_a_sentence(page: Callable[[], AppTest], sighted: Path) -> None:
    (sighted.with_name("another") / "predictions" / "board" / "class_map.ome.tif").write_bytes(b"II*\0nonsense")
    app = page()
    _offered(app).select("another").run()
    assert app.warning[0].value.replace("\\", "").startswith("another: class_map.ome.tif: ")
    assert told_viewer(app)["compare"] == ""


def test_without_another_run_it_is_said_what_to_do(page: Callable[[], AppTest], sighted: Path) -> None:
    shutil.rmtree(sighted.with_name("another") / "predictions")
    box = _offered(page())
    assert box.disabled
    assert "Predict it with another run, or keep this version" in box.help


@pytest.mark.usefixtures("review")
def test_classes_of_another_run_are_painted_by_name() -> None:
    compare = importlib.import_module("compare")
    here = ClassList(("glass", "cell", "nucleus"), (GREY,) * 3, "glass")
    there = ClassList(("nucleus", "glass", "cell", "debris"), (GREY,) * 4, "glass")
    assert compare.painted(here, [2], there) == [0, 3]
    assert compare.painted(here, [0, 1], there) == [1, 2, 3]
    assert compare.painted(here, [], ClassList(("glass", "other"), (GREY,) * 2, "other")) == []


def _identify(prediction: Path, made: str, weights: str) -> None:
    """Write into a summary when and by what the slide was predicted."""
    record = json.loads((prediction / "summary.json").read_text())
    record["made"] = made
    record["provenance"]["bundle"] = {"sha256": {"weights": weights}}
    (prediction / "summary.json").unlink()  # a prediction replaces all files
    (prediction / "summary.json").write_text(json.dumps(record))


def test_a_kept_version_is_laid_beside_a_later_prediction(page: Callable[[], AppTest], sighted: Path) -> None:
    prediction = sighted / "predictions" / "board"
    _identify(prediction, "2026-03-01T14:05:09+00:00", "a")
    app = page()
    assert _offered(app).options == ["Nothing", "another"]
    (keep,) = [button for button in app.main.button if button.label == "Keep this version"]
    app = keep.click().run()
    assert "This version is kept." in [caption.value for caption in app.caption]
    assert _offered(app).options == ["Nothing", "another"]  # it is what is looked at
    (kept,) = (sighted / "versions" / "board").iterdir()
    _identify(prediction, "2026-03-02T14:05:09+00:00", "b")
    app = app.run()
    title = f"2026-03-01 14:05, model {kept.name[-8:]}"
    assert _offered(app).options == ["Nothing", title, "another"]
    assert "Keep this version" in [button.label for button in app.main.button]
    told = told_viewer(_offered(app).select(title).run())
    assert (told["compare"], told["titles"]) == ("swipe", ["this version", title])
    sides = [(one["side"], one["address"]) for one in told["layers"]]
    assert (1, f"/tiles/sighted/classes/board%40{kept.name}") in sides
    assert (0, "/tiles/sighted/classes/board") in sides


def test_a_damaged_version_is_said_in_a_sentence(page: Callable[[], AppTest], sighted: Path) -> None:
    prediction = sighted / "predictions" / "board"
    _identify(prediction, "2026-03-01T14:05:09+00:00", "a")
    version = keep_version(prediction)
    _identify(prediction, "2026-03-02T14:05:09+00:00", "b")
    (version.folder / "class_map.ome.tif").unlink()
    (version.folder / "class_map.ome.tif").write_bytes(b"II*\0nonsense")
    app = page()
    title = f"2026-03-01 14:05, model {version.bundle}"
    app = _offered(app).select(title).run()
    assert app.warning[0].value.replace("\\", "").startswith(f"{title}: class_map.ome.tif: ")
    assert told_viewer(app)["compare"] == ""
