"""What was chosen on a page is still chosen when the page is left and opened again."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.apps.sighted import told_viewer
from tests.apps.test_anomaly_jobs import run

__all__ = ["run"]  # a fixture
Review = Callable[..., AppTest]


def _left(app: AppTest, page: str) -> AppTest:
    """Open another page, and this one again."""
    after: AppTest = app.switch_page("pages/jobs.py").run().switch_page(f"pages/{page}.py").run()
    assert not after.exception, after.exception
    return after


def test_layers_opacities_and_classes_of_a_slide(review: Review, sighted: Path, tmp_path: Path) -> None:
    app = review("slides", "--run", str(sighted), "--base", str(tmp_path))
    app.toggle[0].set_value(False).run()
    app.toggle[2].set_value(True).run()
    app.slider[2].set_value(80).run()
    app.checkbox[0].check().run()
    chosen = [(layer["query"], layer["opacity"]) for layer in told_viewer(app)["layers"]]
    assert chosen == [("&classes=0,1", 0.0), ("", 0.0), ("&classes=0,1", 0.8)]
    app = _left(app, "slides")
    assert [(layer["query"], layer["opacity"]) for layer in told_viewer(app)["layers"]] == chosen
    assert [toggle.value for toggle in app.toggle] == [False, False, True]


@pytest.mark.parametrize("page", ["predict", "anomalies"])
def test_slides_for_a_job(review: Review, run: Path, tmp_path: Path, page: str) -> None:
    app = review(page, "--run", str(run), "--base", str(tmp_path))
    app = _left(app.multiselect[0].select("board").run(), page)
    assert app.multiselect[0].value == ["board"]


@pytest.mark.slow
@pytest.mark.usefixtures("made_run")
def test_how_test_crops_are_shown(review: Review) -> None:
    app = review("crop")
    app.segmented_control[0].set_value("Disagreement").run()
    app.slider[0].set_value(70).run()
    app = _left(app, "crop")
    assert (app.segmented_control[0].value, app.slider[0].value) == ("Disagreement", 70)
    app = app.switch_page("pages/gallery.py").run()
    app.segmented_control[0].set_value("Ground truth").run()
    assert _left(app, "gallery").segmented_control[0].value == "Ground truth"
    app = app.switch_page("pages/confusion.py").run()
    app.segmented_control[0].set_value("Pixels").run()
    app.main.selectbox[0].select_index(1).run()
    chosen = app.main.selectbox[0].value
    app = _left(app, "confusion")
    assert (app.segmented_control[0].value, app.main.selectbox[0].value) == ("Pixels", chosen)


def test_a_project_that_was_begun(review: Review, sighted: Path, tmp_path: Path) -> None:
    app = review("new_project", "--run", str(sighted), "--base", str(tmp_path), "--slides", str(tmp_path / "slides"))
    app.text_input[0].input("mine").run()
    app.number_input[0].set_value(0.25).run()
    app = _left(app, "new_project")
    assert (app.text_input[0].value, app.number_input[0].value) == ("mine", 0.25)
