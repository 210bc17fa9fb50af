"""What is moved, renamed or deleted under an open crop: one sentence, and no stroke is lost."""

import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from cytoseg.labels.drawn_marks import read_marks
from cytoseg.labels.index import load_index
from cytoseg.recipe import load_recipe
from tests.apps.test_annotate import Browser, Review, _crop, _opened, _press, _strokes, _texts, browser, run, seen

__all__ = ["browser", "run", "seen"]
pytestmark = pytest.mark.usefixtures("seen")


def _draw(app: AppTest, browser: Browser, number: int) -> AppTest:
    browser.strokes = _strokes(number)
    after: AppTest = app.run(timeout=60)
    assert not after.exception, after.exception
    return after


@pytest.mark.slow
def test_labels_that_were_deleted_are_imported_again(
    review: Review, run: Path, tmp_path: Path, browser: Browser
) -> None:
    app = _draw(_opened(review, run, tmp_path), browser, 1)
    shutil.rmtree(run / "labels")
    _draw(app, browser, 2)
    assert [crop.crop for crop in load_index(run / "labels").crops] == [_crop(run).stem]


def test_crops_that_were_moved_away_and_back_keep_their_strokes(
    review: Review, run: Path, tmp_path: Path, browser: Browser
) -> None:
    app = _draw(_opened(review, run, tmp_path), browser, 1)
    shutil.move(run / "to_label", tmp_path / "away")
    app = _draw(app, browser, 2)
    assert "There is no crop to annotate yet." in _texts(app)
    shutil.move(tmp_path / "away", run / "to_label")
    _draw(app, browser, 3)
    marks = read_marks(_crop(run), (48, 48), load_recipe(str(run / "recipe.yaml")).class_list())
    assert (marks.ids == _strokes(3).ids).all()


@pytest.mark.slow
def test_after_a_class_was_renamed_the_labels_are_refused_and_the_strokes_kept(
    review: Review, run: Path, tmp_path: Path, browser: Browser
) -> None:
    app = _draw(_opened(review, run, tmp_path), browser, 1)
    before = _crop(run).with_suffix(".json").read_text()
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("name: cell", "name: kernel"))
    assert "(background, cell), but the recipe has (background, kernel). Delete" in _texts(_draw(app, browser, 2))
    _crop(run).with_suffix(".json").write_text(before)  # as a crop that was not open
    app = review("annotate", "--run", str(run), "--base", str(tmp_path))
    assert not app.exception, app.exception
    assert "shape 1: label 'cell' is not in the class list (background, kernel). Rename it or add it" in _texts(app)
    assert _crop(run).with_suffix(".json").read_text() == before


def test_without_the_slides_marked_crops_can_be_drawn_on_and_each_page_says_what_is_missing(
    review: Review, run: Path, tmp_path: Path, browser: Browser
) -> None:
    app = _draw(_opened(review, run, tmp_path), browser, 1)
    shutil.move(tmp_path / "slides", tmp_path / "elsewhere")
    app = _draw(app, browser, 2)
    assert browser.given["saved_stroke"] == 2
    app = _press(app, "New random crop")
    assert "slides: no such folder. Check the path; in a recipe it is in slides.folders." in _texts(app)
    said = {
        "slides": "The predicted slide was moved",
        "predict": "hold no slides",
        "queue": "Restore it, or predict it",
    }
    for page, sentence in said.items():
        app.switch_page(f"pages/{page}.py").run(timeout=60)
        assert not app.exception, (page, app.exception)
        assert sentence in _texts(app)


@pytest.mark.slow
def test_a_live_result_that_was_switched_off_stays_off_after_another_page(
    review: Review, run: Path, tmp_path: Path, browser: Browser
) -> None:
    app = _draw(_opened(review, run, tmp_path), browser, 1)
    assert browser.given["layers"]
    app.toggle[0].set_value(False).run(timeout=60)
    for page in ("jobs", "annotate"):
        app.switch_page(f"pages/{page}.py").run(timeout=60)
        assert not app.exception, app.exception
    assert not app.toggle[0].value
    assert not browser.given["layers"]
