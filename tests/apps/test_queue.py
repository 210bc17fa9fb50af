"""Annotate next: list, buttons, and messages on missing or damaged files."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from cytoseg.labels.queue_file import read_queue
from cytoseg.recipe import dump_recipe, load_recipe
from tests.predict.made import predicted

Review = Callable[..., AppTest]
RECIPE = """\
name: tiny
crops: {size_px: 32}
labels: {crop_px: 32}
diffusion: {dim: 8, dim_mults: [1, 2]}
classes:
  - {name: glass, colour: "#f0f0f0"}
  - {name: "*cell*", colour: "#0072b2"}
fill: glass
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """runs/tiny with one predicted slide of 4 x 2 regions, the first one the most disputed."""
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    (tmp_path / "short.yaml").write_text(RECIPE)
    (folder / "recipe.yaml").write_text(dump_recipe(load_recipe(str(tmp_path / "short.yaml"))))
    rng = np.random.default_rng(0)
    ids, nats = np.ones((64, 128), np.uint8), np.zeros((64, 128), np.float32)
    for number in range(8):
        y, x = 32 * (number // 4), 32 * (number % 4)
        nats[y : y + 16, x : x + 16] = 0.6 - 0.01 * number
    picture = rng.integers(0, 256, (64, 128, 3), dtype=np.uint8)
    slide = tmp_path / "slides" / "smear_A.png"
    predicted(folder / "predictions", slide, picture=picture, ids=ids, nats=nats, classes=("glass", "*cell*"))
    return folder


@pytest.fixture
def opened(review: Review, run: Path) -> Callable[[], AppTest]:
    """Open the page on the run."""

    def open_page() -> AppTest:
        app = review("queue", "--run", str(run))
        app.default_timeout = 60
        assert not app.exception, app.exception
        return app

    return open_page


def _texts(app: AppTest) -> str:
    parts = [*app.main.markdown, *app.caption, *app.info, *app.warning, *app.error, *app.success, *app.title]
    return "\n".join(str(part.value) for part in parts).replace("\\", "")


def _button(app: AppTest, key: str) -> AppTest:
    (found,) = [button for button in app.main.button if button.key == key]
    after: AppTest = found.click().run(timeout=60)
    assert not after.exception, after.exception
    return after


def test_the_list_has_pictures_reasons_and_numbers(opened: Callable[[], AppTest]) -> None:
    app = opened()
    assert app.title[0].value == "Annotate next"
    assert len(app.image) == 5 * 3
    text = _texts(app)
    assert "**1. smear_A, x 0, y 0**" in text
    assert "The ensemble disagrees on *cell* (100 %): 0.60 nats" in text
    assert [button.label for button in app.main.button] == ["Accept", "Skip", "On the slide"] * 5
    assert not app.info
    app.pagination[0].set_value(2).run(timeout=60)
    assert len(app.main.button) == 3 * 3


def test_accepted_regions_lie_in_the_queue_folder_and_leave_the_list(opened: Callable[[], AppTest], run: Path) -> None:
    app = _button(opened(), "accept smear_A 0 0")
    assert "smear_A_0_0 waits in the queue to be corrected." in _texts(app)
    assert "**1** queued region waits to be annotated." in _texts(app)
    assert "**1. smear_A, x 0, y 0**" not in _texts(app)
    stems = {path.name for path in (run / "queue").glob("smear*")}
    assert stems == {"smear_A_0_0.png", "smear_A_0_0.json", "smear_A_0_0.crop.json"}
    assert json.loads((run / "queue" / "smear_A_0_0.json").read_text())["shapes"][0]["label"] == "*cell*"
    assert "The run had not been evaluated then" in _texts(app)


def test_queued_regions_are_opened_in_annotate(
    opened: Callable[[], AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _button(opened(), "accept smear_A 0 0")
    app = _button(opened(), "accept smear_A 32 0")
    assert "**2** queued regions wait to be annotated." in _texts(app)
    assert "Or correct and save them in labelme (folder `queue` of the run)" in _texts(app)
    (label,) = [button.label for button in app.main.button if button.key == "annotate queued"]
    assert label.replace("\\", "") == "Annotate smear_A_32_0"  # the one that was accepted here
    app = _button(app, "annotate queued")
    assert app.title[0].value == "Annotate"
    assert app.selectbox(key="crop to annotate").value == "smear_A_32_0"
    app = opened()  # another person
    (label,) = [button.label for button in app.main.button if button.key == "annotate queued"]
    assert label.replace("\\", "") == "Annotate smear_A_0_0"


def test_colours_that_colour_blind_people_confuse_are_named(opened: Callable[[], AppTest], run: Path) -> None:
    assert "cannot tell" not in _texts(opened())
    text = (run / "recipe.yaml").read_text().lower()
    (run / "recipe.yaml").write_text(text.replace("#f0f0f0", "#d62728").replace("#0072b2", "#2ca02c"))
    assert "Colour-blind people cannot tell glass and *cell* apart." in _texts(opened())


def test_a_region_is_shown_on_its_slide(opened: Callable[[], AppTest]) -> None:
    app = _button(opened(), "see smear_A 32 0")
    assert app.title[0].value == "Slides"
    place = app.session_state["place"]
    assert (app.session_state["slide"], place.slide) == ("smear_A", "smear_A")
    assert (place.x, place.y, place.width) == (32, 0, 32)


def test_two_people_who_decide_on_one_region_decide_once(opened: Callable[[], AppTest], run: Path) -> None:
    first, second, third = opened(), opened(), opened()
    _button(first, "accept smear_A 0 0")
    assert "Someone else has already decided on this region." in _texts(_button(second, "accept smear_A 0 0"))
    _button(third, "skip smear_A 0 0")
    found = read_queue(run / "queue")
    assert [item.state for item in found.items] == ["queued"]
    assert [queued.regions for queued in found.rounds] == [1]


def test_skipped_regions_do_not_come_again(opened: Callable[[], AppTest], run: Path) -> None:
    app = _button(opened(), "skip smear_A 0 0")
    assert "Skipped: it will not be proposed again." in _texts(app)
    assert [item.state for item in read_queue(run / "queue").items] == ["skipped"]
    again = opened()
    assert "x 0, y 0**" not in _texts(again)
    assert not list((run / "queue").glob("smear*"))


def test_when_all_are_decided_on_more_slides_are_asked_for(opened: Callable[[], AppTest]) -> None:
    app = opened()
    for _ in range(8):
        app = _button(app, app.main.button[1].key)
    assert "No uncertain region is left to annotate. Predict more slides." in app.info[0].value
    assert "cytoseg predict RECIPE SLIDE" in app.info[0].value


def test_without_predictions_the_next_command_is_named(opened: Callable[[], AppTest], run: Path) -> None:
    shutil.rmtree(run / "predictions")
    assert "cytoseg predict RECIPE SLIDE" in opened().info[0].value


def test_if_no_slide_can_be_used_the_reason_and_the_command_stand_there(
    opened: Callable[[], AppTest], run: Path
) -> None:
    recipe = load_recipe(str(run / "recipe.yaml"), ['labels.test_slides=["smear*"]'])
    (run / "recipe.yaml").write_text(dump_recipe(recipe))
    app = opened()
    assert not app.error
    said = [warning.value.replace("\\", "") for warning in app.warning]
    assert "smear_A: left out: it is a test slide, whose crops are not used for training. Predict train slides." in said
    assert "cytoseg predict RECIPE SLIDE" in app.info[0].value


def test_a_folder_that_cannot_be_written_is_said(opened: Callable[[], AppTest], run: Path) -> None:
    app = opened()
    (run / "queue").write_text("no folder")
    app.button[0].click().run()
    (said,) = [error.value for error in app.error]
    assert said == "The queue cannot be written (File exists)."


def test_without_any_run_the_page_says_how_to_begin(review: Review) -> None:
    assert "cytoseg train-ddpm RECIPE" in review("queue").info[0].value


def _damage(run: Path, what: str) -> str:
    match what:
        case "queue":
            (run / "queue").mkdir()
            (run / "queue" / "queue.json").write_text("{")
            return "queue/queue.json: is cut off or damaged"
        case "recipe":
            (run / "recipe.yaml").write_text("name: tiny\nclases: []\n")
            return "recipe.yaml of this run cannot be used (classes: Field required"
        case "slide":
            (run.parents[1] / "slides" / "smear_A.png").unlink()
            return "smear_A: left out: its file smear_A.png is missing"
        case "map":
            (run / "predictions" / "smear_A" / "uncertainty.ome.tif").write_bytes(b"II*\0")
            return "smear_A/uncertainty.ome.tif: cannot be read"
        case _:
            (run / "evaluation").mkdir()
            (run / "evaluation" / "evaluation.json").write_text("{")
            return "evaluation.json: the file is not complete JSON"


@pytest.mark.parametrize("what", ["queue", "recipe", "slide", "map", "evaluation"])
def test_what_is_damaged_is_said_without_a_path(opened: Callable[[], AppTest], run: Path, what: str) -> None:
    said = _damage(run, what)
    app = opened()
    text = _texts(app)
    assert said in text
    assert str(run.parents[1]) not in text


def test_a_map_damaged_since_the_list_was_made_takes_its_slide_off_it(opened: Callable[[], AppTest], run: Path) -> None:
    opened()
    path = run / "predictions" / "smear_A" / "class_map.ome.tif"
    path.write_bytes(path.read_bytes()[:100])
    app = opened()  # which notices the other file
    assert len(app.warning) == 1
    assert not app.main.button
    assert "smear_A/class_map.ome.tif: cannot be read" in _texts(app)
    assert str(run.parents[1]) not in _texts(app)


def test_a_slide_that_is_gone_since_spoils_its_cards_only(opened: Callable[[], AppTest], run: Path) -> None:
    app = opened()
    (run.parents[1] / "slides" / "smear_A.png").unlink()
    app.pagination[0].set_value(2).run(timeout=60)
    assert [message.value.replace("\\", "") for message in app.warning] == [
        "smear_A.png: no such file. Check the path."
    ] * 3


def test_the_reason_follows_what_was_accepted_before(opened: Callable[[], AppTest]) -> None:
    app = opened()
    second = app.main.button[3].key.removeprefix("accept ")
    assert _texts(app).count("the first of its slide") == 1
    app = _button(app, "accept smear_A 0 0")
    assert next(button.key for button in app.main.button if button.key.startswith("accept")) == f"accept {second}"
    assert "the first of its slide" not in _texts(app)
    assert "1 is already chosen from its slide" in _texts(app)


@pytest.mark.slow
def test_the_page_loads_none_of_the_libraries_that_take_seconds() -> None:
    program = "import sys, cytoseg.active_learning.queue; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "cytoseg.active_learning.queue" in loaded
    assert not {"torch", "monai", "matplotlib", "scipy.signal", "sklearn"} & set(loaded)
