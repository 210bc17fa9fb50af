"""Annotate: cutting crops, saving and importing strokes, live view, errors."""

import importlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from streamlit.testing.v1 import AppTest

from cytoseg.classes import IGNORE
from cytoseg.geometry import Region
from cytoseg.interpreter.live import LiveView
from cytoseg.jobs.processes import Process, birth_of
from cytoseg.labels.drawn_marks import Drawn, drawn_of, origin_of, save_marks
from cytoseg.labels.index import load_index
from cytoseg.labels.proposal_file import proposal, sealed
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.workflows.annotating import CropFile
from cytoseg.workflows.live_results import LiveResults
from tests.apps import sighted as chessboard

Review = Callable[..., AppTest]
RECIPE = """\
name: sighted
slides: {folders: [slides]}
crops: {size_px: 32}
labels: {crop_px: 48, test_slides: [other]}
diffusion: {dim: 8, dim_mults: [1, 2]}
training: {device: cpu}
classes:
  - {name: background, colour: "#f0f0f0"}
  - {name: cell, colour: "#0072b2"}
fill: background
"""


class Browser:
    """In the editor's place: notes what it is given, and has drawn ``strokes``."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.strokes: Any = None

    def draw(self, picture: NDArray[np.uint8], ids: NDArray[np.uint8], classes: Any, **more: Any) -> None:
        self.given = {"picture": picture, "ids": ids, "classes": classes, **more}

    def strokes_of(self, token: str, _shape: tuple[int, ...]) -> Any:
        return self.strokes if token == self.given.get("token") else None


@pytest.fixture
def run(sighted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """runs/sighted with a whole recipe and without labels; its slide is a chessboard."""
    (tmp_path / "short.yaml").write_text(RECIPE)
    (sighted / "recipe.yaml").write_text(dump_recipe(load_recipe(str(tmp_path / "short.yaml"))))
    shutil.rmtree(sighted / "labels")
    monkeypatch.chdir(tmp_path)
    return sighted


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch, review: Review) -> Browser:
    found, editor = Browser(), importlib.import_module("editor")
    monkeypatch.setattr(editor, "draw", found.draw)
    monkeypatch.setattr(editor, "strokes_of", found.strokes_of)
    return found


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, set[int]]]:
    """In place of the live view: note the crop and the ids, and see cells everywhere."""
    looked: list[tuple[str, set[int]]] = []

    def view(_: LiveResults, crop: Any, picture: NDArray[np.uint8], ids: NDArray[np.uint8]) -> LiveView:
        looked.append((crop.path.stem, set(ids.ravel().tolist())))
        return LiveView(np.ones(picture.shape[:2], np.uint8), np.zeros(picture.shape[:2], np.float32), 3, 0.25)

    def most_uncertain(_: LiveResults, crops: list[CropFile], seen: LiveView) -> list[CropFile]:
        assert seen.seconds == 0.25
        return [crop for crop in crops if crop.drawn is None]

    monkeypatch.setattr(LiveResults, "view", view)
    monkeypatch.setattr(LiveResults, "most_uncertain", most_uncertain)
    return looked


def _texts(app: AppTest) -> str:
    parts = [*app.main.markdown, *app.caption, *app.info, *app.warning, *app.error, *app.success]
    return "\n".join(str(part.value) for part in parts).replace("\\", "")


def _press(app: AppTest, label: str) -> AppTest:
    (found,) = [button for button in app.main.button if button.label == label]
    after: AppTest = found.click().run(timeout=60)
    assert not after.exception, after.exception
    return after


def _opened(review: Review, run: Path, tmp_path: Path, name: str = "Anna") -> AppTest:
    app = review("annotate", "--run", str(run), "--base", str(tmp_path))
    assert not app.exception, app.exception
    if not app.text_input:
        app = _press(app, "Cut a random crop")
    return app.text_input(key="reviewer box").input(name).run() if name else app


def _crop(run: Path) -> Path:
    (path,) = (run / "to_label").glob("*.png")
    return path


def _strokes(number: int) -> Any:
    editor = importlib.import_module("editor")
    ids = np.full((48, 48), IGNORE, np.uint8)
    ids[:10], ids[20:30] = 0, 1
    return editor.Strokes(ids, number)


@pytest.mark.usefixtures("seen")
def test_a_stroke_is_saved_imported_and_seen(
    review: Review, run: Path, tmp_path: Path, browser: Browser, seen: list[tuple[str, set[int]]]
) -> None:
    app = _opened(review, run, tmp_path)
    assert set(browser.given["ids"].ravel()) == {IGNORE}
    assert browser.given["may_save"]
    browser.strokes = _strokes(7)
    app = app.run()
    assert not app.exception, app.exception
    path = _crop(run)
    drawn = drawn_of(path)
    assert drawn is not None
    assert drawn.author == "Anna"
    assert browser.given["saved_stroke"] == 7
    (entry,) = load_index(run / "labels").crops
    assert (entry.crop, entry.slide) == (path.stem, "board")
    np.testing.assert_array_equal(entry.label_map(), browser.strokes.ids)
    assert seen[-1] == (path.stem, {0, 1, IGNORE})
    assert [layer.name for layer in browser.given["layers"]] == ["classes", "doubt"]
    assert browser.given["layers"][0].pixels[0, 0].tolist() == [0, 114, 178, 255]
    assert "Trained on 3 crops in 0.2 s." in _texts(app)
    assert "1 of 1 crops are marked; 0 for testing." in _texts(app)
    looks, written = len(seen), path.with_suffix(".json").stat().st_mtime_ns
    app.run()
    assert (len(seen), path.with_suffix(".json").stat().st_mtime_ns) == (looks, written)  # nothing is done twice


@pytest.mark.usefixtures("seen")
def test_the_most_uncertain_crop_is_opened(review: Review, run: Path, tmp_path: Path, browser: Browser) -> None:
    app = _press(_opened(review, run, tmp_path), "New random crop")
    first = app.selectbox(key="crop to annotate").value
    (other,) = (path.stem for path in (run / "to_label").glob("*.png") if path.stem != first)
    browser.strokes = _strokes(1)
    app = app.run()
    (offered,) = (button for button in app.main.button if button.label == "Most uncertain crop")
    assert offered.help.replace("\\", "").startswith(f"{other}: the least certain of 1 unmarked crops;")
    app = _press(app, "Most uncertain crop")
    assert app.selectbox(key="crop to annotate").value == other
    assert not [button for button in app.main.button if button.label == "Most uncertain crop"]  # the other is marked


def test_a_crop_is_marked_and_saved_while_its_first_result_is_computed(
    review: Review, run: Path, tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, computed_for = threading.Event(), []

    def view(_: LiveResults, crop: Any, picture: NDArray[np.uint8], ids: NDArray[np.uint8]) -> LiveView:
        computed_for.append(set(ids.ravel().tolist()))
        assert goes_on.wait(timeout=60)
        return LiveView(np.ones(picture.shape[:2], np.uint8), np.zeros(picture.shape[:2], np.float32), 3, 0.25)

    monkeypatch.setattr(LiveResults, "view", view)
    monkeypatch.setattr(LiveResults, "most_uncertain", lambda *_: [])
    app = _opened(review, run, tmp_path)
    assert browser.given["layers"] == ()
    assert "Computing the first result" in _texts(app)
    browser.strokes = _strokes(7)
    app.run()
    assert (browser.given["saved_stroke"], computed_for) == (7, [{IGNORE}])
    app.toggle(key="live box").set_value(False).run()
    assert "Computing" not in _texts(app)
    goes_on.set()
    app = app.run()
    assert browser.given["layers"] == ()
    app = app.toggle(key="live box").set_value(True).run()
    assert not app.exception, app.exception
    assert [layer.name for layer in browser.given["layers"]] == ["classes", "doubt"]
    # Without a name, for Anna, and for the marks that she has made meanwhile.
    assert computed_for == [{IGNORE}, {IGNORE}, {0, 1, IGNORE}]
    assert "Computing" not in _texts(app)


def test_without_a_name_nothing_is_saved(review: Review, run: Path, tmp_path: Path, browser: Browser) -> None:
    app = _opened(review, run, tmp_path, name="")
    browser.strokes = _strokes(7)
    app = app.run()
    assert not browser.given["may_save"]
    assert drawn_of(_crop(run)) is None
    assert not (run / "labels").exists()


def test_without_a_network_it_is_said_and_strokes_are_saved(
    review: Review, run: Path, tmp_path: Path, browser: Browser
) -> None:
    app = _opened(review, run, tmp_path)
    browser.strokes = _strokes(1)
    app = app.run()
    assert not app.exception, app.exception
    assert "train-ddpm" in _texts(app)
    assert len(load_index(run / "labels").crops) == 1


def test_what_another_person_has_saved_meanwhile_is_kept_and_so_are_ones_own_strokes(
    review: Review, run: Path, tmp_path: Path, browser: Browser
) -> None:
    app = _opened(review, run, tmp_path)
    path, theirs = _crop(run), np.ones((48, 48), np.uint8)
    save_marks(path, Drawn("Bo", "2026-01-01"), theirs, browser.given["classes"])
    browser.strokes = _strokes(1)
    app = app.run()
    assert "Training uses the marks of Bo. Yours are kept beside them" in _texts(app)
    assert drawn_of(path) == Drawn("Bo", "2026-01-01")
    browser.strokes = None
    _press(app, "Reload marks")
    np.testing.assert_array_equal(browser.given["ids"], _strokes(1).ids)


def test_another_window_of_the_same_person_is_not_written_over(
    review: Review, run: Path, tmp_path: Path, browser: Browser
) -> None:
    app = _opened(review, run, tmp_path)
    path, earlier = _crop(run), np.ones((48, 48), np.uint8)
    save_marks(path, Drawn("Anna", "2026-01-01"), earlier, browser.given["classes"])
    browser.strokes = _strokes(1)
    app = app.run()
    assert "Anna has saved other marks since you opened it" in _texts(app)
    assert drawn_of(path) == Drawn("Anna", "2026-01-01")
    browser.strokes = None
    _press(app, "Reload marks")
    np.testing.assert_array_equal(browser.given["ids"], earlier)


@pytest.mark.usefixtures("seen")
def test_a_crop_of_a_test_slide_is_marked_as_such(review: Review, run: Path, tmp_path: Path, browser: Browser) -> None:
    app = _opened(review, run, tmp_path)
    path = _crop(run)
    for suffix in (".png", ".crop.json"):
        shutil.copy(path.with_name(path.stem + suffix), path.with_name(f"other_1_1{suffix}"))
    sidecar = path.with_name("other_1_1.crop.json")
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "slide": "other"}))
    app = app.run()
    app = app.main.selectbox[0].select("other_1_1").run()
    assert "A crop of the test slide other: used for testing, never for training." in _texts(app)
    assert "2 crops are marked; 1 for testing." in _texts(app)


@pytest.mark.usefixtures("seen")
def test_a_proposal_is_offered_and_damage_is_said(review: Review, run: Path, tmp_path: Path, browser: Browser) -> None:
    app = _opened(review, run, tmp_path)
    assert browser.given["proposed"] is None
    guess = np.zeros((48, 48), np.uint8)
    guess[10:30, 10:30] = 1
    path = _crop(run)
    path.with_suffix(".json").write_text(sealed(proposal(guess, browser.given["classes"], picture=path.name)))
    _press(app, "Reload marks")
    np.testing.assert_array_equal(browser.given["proposed"] == 1, guess == 1)
    assert "train-ddpm" in _texts(_press(app, "Propose marks"))
    path.with_suffix(".json").write_text("[1,")
    app = _press(app, "Reload marks")
    assert "is cut off or damaged" in _texts(app)


@pytest.mark.usefixtures("seen")
def test_damage_is_a_sentence_that_names_no_folder(review: Review, run: Path, tmp_path: Path, browser: Browser) -> None:
    app = _opened(review, run, tmp_path)
    assert browser.given
    (run / "recipe.yaml").write_bytes((run / "recipe.yaml").read_bytes()[:40])
    app = app.run()
    assert not app.exception, app.exception
    assert "recipe" in _texts(app)
    assert str(tmp_path) not in _texts(app)
    app = app.switch_page("pages/jobs.py").run()
    assert not app.exception, app.exception
    app = app.switch_page("pages/predict.py").run()
    assert not app.exception, app.exception
    assert str(tmp_path) not in _texts(app)


@pytest.mark.usefixtures("seen")
def test_a_place_on_a_slide_is_cut_and_opened(review: Review, run: Path, tmp_path: Path, browser: Browser) -> None:
    app = review("slides", "--run", str(run), "--base", str(tmp_path))
    for field, value in zip(app.number_input, (100, 200, 50), strict=True):
        field.set_value(value)
    app = _press(app, "Annotate")
    assert app.title[0].value == "Annotate"
    assert app.main.selectbox[0].value == "board_100_200"
    assert origin_of(run / "to_label" / "board_100_200.png").region == Region(100, 200, 50, 50)
    assert browser.given["picture"].shape == (50, 50, 3)
    np.testing.assert_allclose(browser.given["picture"][10, 10], chessboard.CELL, atol=3)  # the slide is a JPEG


@pytest.mark.usefixtures("browser")
def test_a_place_that_is_too_small_is_refused_on_the_slide(review: Review, run: Path, tmp_path: Path) -> None:
    app = review("slides", "--run", str(run), "--base", str(tmp_path))
    app.number_input[2].set_value(20)
    app = _press(app, "Annotate")
    assert app.title[0].value == "Slides"
    assert "20 x 20 pixels cannot be annotated" in _texts(app)
    assert not (run / "to_label").exists()


@pytest.mark.usefixtures("seen")
def test_marks_are_shown_as_a_picture(
    review: Review, run: Path, tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    def start(command: list[str], **_: Any) -> Process:
        started.append(command)
        return Process(os.getpid(), birth_of(os.getpid()) or "")

    monkeypatch.setattr("cytoseg.jobs.start_and_cancel.start_apart", start)
    app = _opened(review, run, tmp_path)
    (button,) = [button for button in app.main.button if button.label == "Redraw from marks"]
    assert button.disabled  # nothing is marked yet
    browser.strokes = _strokes(7)
    app = _press(app.run(), "Redraw from marks")
    path = _crop(run).resolve()
    assert started[0][-5:] == [
        "edit",
        str(run.resolve() / "recipe.yaml"),
        str(path),
        "--map",
        f"{path.with_suffix('')}.json",
    ]
    assert not app.get("image")
    (run / "edited").mkdir()
    shutil.copy(path, run / "edited" / f"{path.stem}_0.png")
    app = app.run()
    assert not app.exception, app.exception
    assert len(app.get("image")) == 1
    (run / "edited" / f"{path.stem}_0.png").write_bytes(b"")  # not written whole by another program
    app = app.run()
    assert not app.exception
    assert not app.get("image")
