"""Two people: conflicts side by side, decisions of a third, assignments, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from streamlit.testing.v1 import AppTest

from cytoseg.classes import IGNORE
from cytoseg.labels import readings
from cytoseg.labels.drawn_marks import Drawn, drawn_of, read_marks
from cytoseg.labels.index import load_index
from cytoseg.labels.readings import Reading, place_of, save_reading
from cytoseg.review import conflicts
from cytoseg.review.append_only import log_of
from cytoseg.review.assignments import Assignment, assign, assignees, read_assignments, take
from cytoseg.review.resolutions import read_resolutions
from cytoseg.review.run_name import named_in_log
from cytoseg.runs import recorded
from tests.apps.sighted import CLASSES
from tests.apps.test_annotate import Browser, _press, _strokes, _texts, browser, run, seen

__all__ = ["browser", "run", "seen"]
Review = Callable[..., AppTest]
SIDE, TIME = 48, "2026-01-01T10:00:00.000000+00:00"


def _crop(run: Path, name: str) -> Path:
    path = run / "to_label" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((SIDE, SIDE, 3), 200, np.uint8)).save(path)
    path.with_name(f"{name}.crop.json").write_text(json.dumps({"slide": "board", "region": [0, 0, SIDE, SIDE]}))
    return path


def _mark(crop: Path, author: str, rows: int) -> Path:
    """Mark the upper half as cell down to a row, and glass below."""
    ids = np.full((SIDE, SIDE), IGNORE, np.uint8)
    ids[: SIDE // 2] = 0
    ids[:rows] = 1
    known = drawn_of(place_of(crop, author))
    return save_reading(crop, author, TIME, label_map=ids, classes=CLASSES, known=known)


@pytest.fixture
def disputed(run: Path) -> Path:
    """Anna and Bo differ in 6 of 24 rows of one crop, in 12 of another."""
    for name, rows in (("mild", 6), ("worst", 12)):
        crop = _crop(run, name)
        _mark(crop, "Anna", 0)
        _mark(crop, "Bo", rows)
    return run / "to_label" / "worst.png"


def _opened(review: Review, run: Path, tmp_path: Path, name: str = "Cem", page: str = "two_people") -> AppTest:
    app = review(page, "--run", str(run), "--base", str(tmp_path))
    assert not app.exception, app.exception
    return app.text_input(key="reviewer box").input(name).run() if name else app


def _buttons(app: AppTest) -> dict[str, bool]:
    return {button.label.replace("\\", ""): not button.disabled for button in app.main.button}


def test_conflicts_are_listed_by_disagreement_and_shown_side_by_side(
    review: Review, run: Path, tmp_path: Path, disputed: Path
) -> None:
    app = _opened(review, run, tmp_path)
    table = app.dataframe[0].value
    assert table[["Crop", "People", "Differ", "Pixels marked by both"]].to_numpy().tolist() == [
        ["worst", "Anna, Bo", "50.0%", SIDE * SIDE // 2],
        ["mild", "Anna, Bo", "25.0%", SIDE * SIDE // 2],
    ]
    assert len(app.get("image")) + len(app.get("imgs")) == 2
    assert "576 of the 1,152 pixels that both marked have different classes (50.0%)" in _texts(app)
    offered = _buttons(app)
    assert [offered[f"{word} {name}'s"] for word in ("Take", "Draw from") for name in ("Anna", "Bo")] == [True] * 4


@pytest.mark.usefixtures("disputed")
def test_the_page_reads_each_persons_marks_once(
    review: Review, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, read = _opened(review, run, tmp_path), []

    def marks_at(reading: Reading, *given: Any) -> NDArray[np.uint8]:
        read.append(reading.picture)
        return readings.marks_at(reading, *given)

    monkeypatch.setattr(conflicts, "marks_at", marks_at)
    app = app.run()
    assert "Agreement" in [title.value for title in app.subheader]
    assert len(read) == len(set(read)) == 4


@pytest.mark.parametrize(("name", "why"), [("", ""), ("anna", "You have marked this crop"), ("Bo", "You have marked")])
@pytest.mark.usefixtures("disputed")
def test_a_conflict_is_not_resolved_by_a_party_to_it(
    review: Review, run: Path, tmp_path: Path, name: str, why: str
) -> None:
    app = _opened(review, run, tmp_path, name)
    assert not _buttons(app)["Take Bo's"]
    assert why in _texts(app)


def test_a_choice_becomes_the_label_at_once(review: Review, run: Path, tmp_path: Path, disputed: Path) -> None:
    app = _press(_opened(review, run, tmp_path), "Take Bo's")
    assert "worst: resolved by Cem. Training uses these marks now." in _texts(app)
    (entry,) = load_index(run / "labels").crops
    assert (entry.crop, int((entry.label_map() == 1).sum())) == ("worst", 12 * SIDE)
    (said,) = read_resolutions(log_of(run, None))
    assert (said.author, said.choice, said.first, said.second) == ("Cem", "second", "Anna", "Bo")
    assert [app.dataframe[0].value["Crop"].tolist(), app.dataframe[3].value["Decision"].tolist()] == [
        ["mild"],
        ["took Bo's"],
    ]
    app = _press(app, "Take Anna's")
    assert "No two people have marked the same pixels" in _texts(app)


@pytest.mark.usefixtures("disputed")
def test_marks_that_cannot_be_imported_are_an_error_and_no_key_shows_a_path(
    review: Review, run: Path, tmp_path: Path
) -> None:
    (run / "labels").mkdir(exist_ok=True)
    (run / "labels" / "index.json").write_text("{")
    app = _opened(review, run, tmp_path)
    assert [one.key for one in (*app.main.button, *app.main.text_input) if str(tmp_path) in str(one.key)] == []
    app = _press(app, "Take Bo's")
    (error,) = [one.value.replace("\\", "") for one in app.error]
    assert error.startswith("worst: resolved by Cem. Not imported: ")
    assert "index.json" in error


def test_what_has_changed_meanwhile_is_not_resolved(review: Review, run: Path, tmp_path: Path, disputed: Path) -> None:
    app = _opened(review, run, tmp_path)
    _mark(disputed, "Bo", 24)
    (button,) = [one for one in app.main.button if one.label == "Take Bo's"]
    app = button.click().run()
    assert "the marks have changed since you opened it" in _texts(app)
    assert read_resolutions(log_of(run, None)) == []
    assert drawn_of(disputed) == Drawn("Anna", TIME)


@pytest.mark.usefixtures("seen")
def test_drawing_begins_from_the_chosen_marks_and_goes_on_as_the_label(
    review: Review, run: Path, tmp_path: Path, disputed: Path, browser: Browser
) -> None:
    app = _press(_opened(review, run, tmp_path), "Draw from Bo's")
    assert app.title[0].value == "Annotate"
    assert "resolved by Cem" in app.main.selectbox[0].options[-1]
    assert app.main.selectbox[0].value == "worst"
    assert int((browser.given["ids"] == 1).sum()) == 12 * SIDE
    browser.strokes = _strokes(1)
    app = app.switch_page("pages/annotate.py").run()
    drawn = drawn_of(disputed)
    assert drawn is not None
    assert (drawn.author, drawn.resolves) == ("Cem", ("Anna", "Bo"))
    np.testing.assert_array_equal(load_index(run / "labels").crops[0].label_map(), browser.strokes.ids)


@pytest.mark.usefixtures("seen")
def test_a_second_person_draws_apart_and_may_begin_from_the_first(
    review: Review, run: Path, tmp_path: Path, browser: Browser
) -> None:
    crop = _crop(run, "a")
    _mark(crop, "Anna", 6)
    app = _opened(review, run, tmp_path, "Bo", page="annotate")
    assert set(browser.given["ids"].ravel()) == {IGNORE}
    assert "Training uses the marks of Anna. Yours are kept beside them" in _texts(app)
    app = _press(app, "Start from the marks of Anna")
    assert int((browser.given["ids"] == 1).sum()) == 6 * SIDE
    browser.strokes = _strokes(1)
    app = app.run()
    assert not app.exception
    assert app.main.selectbox[0].options == ["a, marked by Anna, Bo"]
    assert not (run / "labels").exists()  # only the label is imported
    assert [int((read_marks(place_of(crop, who), (SIDE, SIDE), CLASSES).ids == 1).sum()) for who in ("Anna", "Bo")] == [
        6 * SIDE,
        10 * SIDE,
    ]


@pytest.mark.usefixtures("browser", "seen")
def test_ones_own_crops_come_first_and_free_ones_are_to_take(review: Review, run: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        _crop(run, name)
    log = log_of(run, None)
    for crop, person in (("a", "Anna"), ("c", "Bo")):
        assign(log, Assignment("Cem", "sighted", crop, person))
    app = _opened(review, run, tmp_path, "Bo", page="annotate")
    assert app.main.selectbox[0].options == ["c, assigned to you", "b", "a, assigned to Anna"]
    app = app.main.selectbox[0].select("b").run()
    app = _press(app, "Assign to me")
    assert "b, assigned to you" in app.main.selectbox[0].options
    app = _press(app, "Give back")
    assert assignees(read_assignments(log)) == {"a": ("Anna",), "c": ("Bo",)}
    take(log, Assignment("Anna", named_in_log(run), "b", "Anna"))  # in another window, while this one still offers it
    (button,) = [one for one in app.main.button if one.label == "Assign to me"]
    assert "b: is assigned to Anna. Take another crop" in _texts(button.click().run())


def test_crops_are_assigned_and_withdrawn_by_name(review: Review, run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        _crop(run, name)
    app = _opened(review, run, tmp_path)
    assert not _buttons(app)["Assign"]
    assert "all are free to take" in _texts(app)
    app = app.multiselect[0].set_value(["a", "b"]).run()
    app = app.text_input[1].input("Bo").run()
    app = _press(app, "Assign")
    assert app.dataframe[0].value.to_numpy().tolist() == [["a", "Bo"], ["b", "Bo"]]
    app = _press(app, "Withdraw")
    assert assignees(read_assignments(log_of(run, None))) == {}


def test_assignments_in_a_shared_log_outlive_the_first_command_of_a_new_run(
    review: Review, run: Path, tmp_path: Path
) -> None:
    _crop(run, "a")
    shared = ("--run", str(run), "--base", str(tmp_path), "--log", f"sqlite:///{tmp_path / 'shared.sqlite'}")
    app = review("annotate", *shared)
    app = app.text_input(key="reviewer box").input("Anna").run()
    app = _press(app, "Assign to me")
    with recorded(run, "evaluate", recipe="short", seed=0):
        pass
    app = review("two_people", *shared)
    assert app.dataframe[0].value.to_numpy().tolist() == [["a", "Anna"]]


def test_a_damaged_log_and_no_crops_are_sentences(review: Review, run: Path, tmp_path: Path) -> None:
    assert "There is no crop to annotate yet." in _texts(
        review("two_people", "--run", str(run), "--base", str(tmp_path))
    )
    _crop(run, "a")
    log = run / "review" / "log.sqlite"
    log.parent.mkdir()
    log.write_bytes(b"no table" * 500)
    app = _opened(review, run, tmp_path)
    assert "log.sqlite is damaged" in _texts(app)
    assert str(tmp_path) not in _texts(app)
