"""Jobs and Predict: offered, started, shown and refused jobs."""

import csv
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit
from sqlalchemy import text
from streamlit.testing.v1 import AppTest

from cytoseg.jobs import job_database
from cytoseg.jobs.job_database import FILE, LOGS, JobPlace
from cytoseg.jobs.job_database import opened as opened_table
from cytoseg.jobs.job_table import add_job, update_job
from cytoseg.jobs.processes import Process, birth_of
from cytoseg.predict.sign_off_file import SignedOff, read_signed_off
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.reporting.report import report_page
from cytoseg.review.append_only import log_of
from cytoseg.review.slide_approvals import SignOff, read_sign_offs, sign_off
from tests.apps.test_queue import RECIPE

Review = Callable[..., AppTest]


@pytest.fixture
def run(sighted: Path, tmp_path: Path) -> Path:
    """runs/sighted with a whole recipe."""
    (tmp_path / "short.yaml").write_text(RECIPE.replace("name: tiny", "name: sighted\nslides: {folders: [slides]}"))
    (sighted / "recipe.yaml").write_text(dump_recipe(load_recipe(str(tmp_path / "short.yaml"))))
    return sighted


def texts(app: AppTest) -> str:
    parts = [*app.main.markdown, *app.caption, *app.info, *app.warning, *app.error, *app.success, *app.code]
    return "\n".join(str(part.value) for part in parts).replace("\\", "")


def press(app: AppTest, label: str) -> AppTest:
    (found,) = [button for button in app.main.button if button.label == label]
    assert not found.disabled, label
    after: AppTest = found.click().run(timeout=60)
    assert not after.exception, after.exception
    return after


def opened(review: Review, page: str, run: Path, tmp_path: Path, *, name: str = "Anna") -> AppTest:
    app = review(page, "--run", str(run), "--base", str(tmp_path))
    assert not app.exception, app.exception
    return app.text_input(key="reviewer box").input(name).run() if name else app


def test_a_button_starts_the_command_on_the_runs_own_recipe(
    review: Review, run: Path, tmp_path: Path, started: list[list[str]]
) -> None:
    app = opened(review, "jobs", run, tmp_path)
    assert "Nothing has been started from here yet." in texts(app)
    app = press(app, "Evaluate")
    assert "Evaluate: started as job 1." in texts(app)
    assert started[0][-2:] == ["evaluate", str(run / "recipe.yaml")]
    assert "**1. Evaluate**: waiting" in texts(app)
    assert "Started by Anna, " in texts(app)


def test_the_kind_of_model_is_chosen_with_its_cost(
    review: Review, run: Path, tmp_path: Path, started: list[list[str]]
) -> None:
    app = opened(review, "jobs", run, tmp_path)
    (kind,) = [box for box in app.main.selectbox if box.label == "Kind of model"]
    assert (kind.value, kind.options) == ("mlps", ["MLPs", "Decoder", "Student"])
    assert "seconds to a few minutes on one core" in texts(app)
    app = kind.select("decoder").run()
    assert "minutes to an hour and a half on one core" in texts(app)
    app = press(app, "Train")
    assert started[0][-3:] == ["train-interpreter", str(run / "recipe.yaml"), "interpreter.kind=decoder"]
    assert "**1. Train: decoder**: waiting" in texts(app)


def test_a_kind_that_the_page_does_not_offer_stays_the_recipes(
    review: Review, run: Path, tmp_path: Path, started: list[list[str]]
) -> None:
    recipe = load_recipe(str(run / "recipe.yaml"), ["interpreter.kind=segdiff"])
    (run / "recipe.yaml").write_text(dump_recipe(recipe))
    press(opened(review, "jobs", run, tmp_path), "Train")
    assert started[0][-2:] == ["train-interpreter", str(run / "recipe.yaml")]


def test_an_autoencoder_is_offered_in_a_latent_space_only(review: Review, run: Path, tmp_path: Path) -> None:
    app = opened(review, "jobs", run, tmp_path)
    assert "Train the autoencoder" not in [button.label for button in app.main.button]
    recipe = load_recipe(str(run / "recipe.yaml"), ["space.kind=kl"])
    (run / "recipe.yaml").write_text(dump_recipe(recipe))
    assert "Train the autoencoder" in [button.label for button in app.run(timeout=60).main.button]


def test_a_job_that_has_not_ended_is_not_started_again(
    review: Review, run: Path, tmp_path: Path, started: list[list[str]]
) -> None:
    press(opened(review, "jobs", run, tmp_path, name="Anna"), "Evaluate")
    app = press(opened(review, "jobs", run, tmp_path, name="Bo"), "Evaluate")
    assert "not started again, because job 1, started by Anna, does the same and has not ended" in texts(app)
    assert len(started) == 1
    app = press(app, "Study robustness")
    assert "started as job 2" in texts(app)
    update_job(JobPlace(run), 1, state="finished")
    assert "started as job 3" in texts(press(app, "Evaluate"))
    assert len(started) == 3


def test_a_start_needs_a_name(review: Review, run: Path, tmp_path: Path) -> None:
    app = opened(review, "jobs", run, tmp_path, name="")
    assert {button.disabled for button in app.main.button if button.label in ("Evaluate", "Train")} == {True}


def test_progress_ends_and_failures_are_shown(
    review: Review, run: Path, tmp_path: Path, started: list[list[str]]
) -> None:
    def here(_: int) -> Process:
        return Process(os.getpid(), birth_of(os.getpid()) or "")

    for command in ("train-interpreter", "evaluate"):
        add_job(JobPlace(run), command, (), author="Bo", device="first", start=here)
    update_job(JobPlace(run), 1, state="running", what="features", done=3, total=10, time_left="2 min")
    update_job(JobPlace(run), 2, state="failed", said="/secret/place/x: there is no *bundle*.")
    (run / LOGS).mkdir()
    (run / LOGS / "0001.log").write_text("a line\n")
    app = opened(review, "jobs", run, tmp_path)
    shown = texts(app)
    assert "**2. Evaluate**: failed" in shown
    assert "x: there is no *bundle*." in shown
    assert "secret" not in shown
    assert "a line" in shown
    assert "Correct the cause, then press *Resume*: finished work is not repeated." in shown
    app = press(app, "Resume")
    assert started[0][-2] == "evaluate"
    assert "Cancel" in [button.label for button in app.main.button]


@pytest.mark.parametrize(
    ("state", "said"), [("failed", "It ended without a message. The log may say more."), ("running", "was killed or")]
)
def test_what_did_not_finish_says_how_to_go_on(
    review: Review, run: Path, tmp_path: Path, started: list[list[str]], state: str, said: str
) -> None:
    for command in ("evaluate", "queue"):
        add_job(JobPlace(run), command, (), author="Bo", device="first", start=lambda _: Process(1, "then"))
    update_job(JobPlace(run), 1, state="cancelled")
    update_job(JobPlace(run), 2, state=state)  # running, but its process is gone: lost
    shown = texts(opened(review, "jobs", run, tmp_path))
    assert "**1. Evaluate**: cancelled" in shown
    assert f"**2. Fill the queue**: {'failed' if state == 'failed' else 'lost'}" in shown
    assert said in shown
    assert shown.count("press *Resume*") + shown.count("Press *Resume* to continue") == 2
    assert not started


def test_a_job_of_another_machine_is_shown_with_its_name_and_cancelled_there(
    review: Review, run: Path, tmp_path: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_database, "is_file", lambda _: False)  # a file stands for a server
    place = JobPlace(run, f"sqlite:///{tmp_path / 'shared.sqlite'}")
    add_job(place, "evaluate", (), author="Bo", device="first", start=lambda _: Process(1, "then"))
    with opened_table(place, writing=True) as connection:
        connection.execute(text("UPDATE review_jobs SET machine = 'slide-pc'"))
    app = review("jobs", "--run", str(run), "--base", str(tmp_path), "--log", str(place.url))
    app = app.text_input(key="reviewer box").input("Anna").run()
    assert "**1. Evaluate**: waiting" in texts(app)
    assert "; on slide-pc" in texts(app)
    assert "Its log is on slide-pc." in texts(app)
    assert "job 1: runs on slide-pc. Cancel it in the app there." in texts(press(app, "Cancel"))
    app = press(app, "Evaluate")
    assert "Evaluate: started as job 2." in texts(app)
    assert started[0][-3:] == [str(place.url), "evaluate", str(run / "recipe.yaml")]
    assert not (run / FILE).exists()


def test_a_job_of_a_machine_that_was_switched_off_can_be_resumed_here(
    review: Review, run: Path, tmp_path: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_database, "is_file", lambda _: False)  # a file stands for a server
    place = JobPlace(run, f"sqlite:///{tmp_path / 'shared.sqlite'}")
    add_job(place, "evaluate", (), author="Bo", device="first", start=lambda _: Process(1, "then"))
    with opened_table(place, writing=True) as connection:
        connection.execute(text("UPDATE review_jobs SET machine = 'slide-pc', state = 'running', seen = seen - 7200"))
    app = review("jobs", "--run", str(run), "--base", str(tmp_path), "--log", str(place.url))
    app = app.text_input(key="reviewer box").input("Anna").run()
    assert "**1. Evaluate**: lost contact" in texts(app)
    assert "slide-pc has given no sign of life for 2 h 00 min. It is switched off, asleep or cut off" in texts(app)
    assert "Cancel" not in [button.label for button in app.main.button]
    app = press(app, "Resume")
    assert "Evaluate: started as job 2." in texts(app)
    assert started[0][-3:] == [str(place.url), "evaluate", str(run / "recipe.yaml")]


def test_a_recipe_of_another_run_folder_is_refused(
    review: Review, run: Path, tmp_path: Path, started: list[list[str]]
) -> None:
    path = run / "recipe.yaml"
    path.write_text(path.read_text().replace("name: sighted", "name: other"))
    app = press(opened(review, "jobs", run, tmp_path), "Train")
    assert "its recipe.yaml has the run folder runs/other" in texts(app)
    assert started == []


def test_a_damaged_table_is_a_sentence(review: Review, run: Path, tmp_path: Path) -> None:
    (run / FILE).write_bytes(b"no table" * 100)
    assert "jobs.sqlite: is damaged" in texts(opened(review, "jobs", run, tmp_path))


def test_chosen_slides_are_predicted_by_their_paths(
    review: Review, run: Path, tmp_path: Path, started: list[list[str]]
) -> None:
    app = opened(review, "predict", run, tmp_path)
    assert "This run has no model yet" in texts(app)
    app = app.multiselect[0].select("board").run()
    app = press(app, "Predict")
    assert "Predict slides: started as job 1." in texts(app)
    assert started[0][-3:] == ["predict", str(run / "recipe.yaml"), str(tmp_path / "slides" / "board.ome.tif")]
    assert "**1. Predict slides: board**: waiting" in texts(app)
    with sqlite3.connect(run / FILE) as table:
        ((given,),) = table.execute("SELECT given FROM jobs").fetchall()
    table.close()
    assert json.loads(given) == ["board"]


def test_a_slide_that_was_deleted_meanwhile_is_named(
    review: Review, run: Path, tmp_path: Path, started: list[list[str]]
) -> None:
    process = Process(os.getpid(), birth_of(os.getpid()) or "")
    add_job(JobPlace(run), "predict", ("board", "gone"), author="Bo", device="first", start=lambda _: process)
    update_job(JobPlace(run), 1, state="failed")
    app = press(opened(review, "predict", run, tmp_path), "Resume")
    assert "gone: no longer among the slides of the recipe. Choose others." in texts(app)
    assert started == []


def test_a_run_without_slides_leads_to_others(review: Review, run: Path, tmp_path: Path) -> None:
    (tmp_path / "slides" / "board.ome.tif").unlink()
    shutil.rmtree(run / "predictions")
    app = opened(review, "predict", run, tmp_path)
    assert "The folders of the recipe hold no slides. Put slides there, or begin with others." in texts(app)
    assert [link.proto.label for link in app.main.get("page_link")] == ["Annotate", "New project"]


def _links(app: AppTest) -> dict[str, str]:
    return {found.proto.label: found.proto.url for found in app.get("link_button")}


def test_predicted_slides_offer_their_files(review: Review, run: Path, tmp_path: Path) -> None:
    app = opened(review, "predict", run, tmp_path)
    assert _links(app) == {
        "Report": "/report/sighted",
        "Class map": "/files/sighted/board/class_map.ome.tif",
        "Uncertainty": "/files/sighted/board/uncertainty.ome.tif",
        "Summary": "/files/sighted/board/summary.json",
    }


def test_a_slide_is_signed_off_and_the_list_says_so(review: Review, run: Path, tmp_path: Path) -> None:
    app = opened(review, "slides", run, tmp_path)
    assert "not signed off" in texts(app)
    app.text_area[0].input("nuclei are right").run()
    app = press(app, "Approve")
    assert "board: approved by Anna." in texts(app)
    assert "approved by Anna, " in texts(app)
    (entry,) = read_sign_offs(log_of(run, None))
    assert (entry.slide, entry.verdict, entry.comment, entry.author) == (
        "board",
        "approved",
        "nuclei are right",
        "Anna",
    )
    app = app.switch_page("pages/predict.py").run()
    assert "approved by Anna, " in texts(app)
    assert "(nuclei are right)" in texts(app)
    assert [found.proto.label for found in app.get("download_button")] == ["Slides (CSV)", "Sign-offs (CSV)"]
    said = read_signed_off(run / "predictions" / "board")
    assert said == SignedOff("board", "approved", "Anna", entry.time, "nuclei are right", entry.bundle)
    assert "/files/sighted/board/sign_off.json" in _links(app).values()


def test_a_slide_that_needs_labels_is_so_in_the_table_and_in_the_exports(
    review: Review, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered: dict[str, str] = {}

    def offer(label: str, data: bytes, **_: object) -> None:
        offered[label] = data.decode("utf-8-sig")

    app = opened(review, "slides", run, tmp_path)
    app.text_area[0].input("folded at the edge").run()
    app = press(app, "Needs labels")
    assert "board: needs labels by Anna." in texts(app)
    monkeypatch.setattr(streamlit, "download_button", offer)
    app = app.switch_page("pages/predict.py").run()
    assert re.search(r"needs labels by Anna, 20[0-9: -]+ \(folded at the edge\)", texts(app))
    (slide,) = csv.DictReader(offered["Slides (CSV)"].splitlines())
    assert [slide[name] for name in ("slide", "verdict", "author", "comment")] == [
        "board",
        "needs labels",
        "Anna",
        "folded at the edge",
    ]
    (said,) = csv.DictReader(offered["Sign-offs (CSV)"].splitlines())
    assert (said["slide"], said["verdict"], said["author"]) == ("board", "needs labels", "Anna")
    assert json.loads((run / "predictions" / "board" / "sign_off.json").read_text())["verdict"] == "needs labels"
    assert "needs labels by Anna" in report_page(run)


def test_a_prediction_of_another_model_is_named_as_such(review: Review, run: Path, tmp_path: Path) -> None:
    summary, bundle = run / "predictions" / "board" / "summary.json", run / "interpreter" / "bundle"
    found = json.loads(summary.read_text())
    found["provenance"]["bundle"] = {"sha256": {"ensemble": "1"}}
    summary.write_text(json.dumps(found))
    bundle.mkdir(parents=True)
    classes = {"names": ["cell"], "colours": [[0, 0, 0]], "fill": None}
    for weights, told in (("1", False), ("2", True)):
        (bundle / "state.json").write_text(json.dumps({"classes": classes, "sha256": {"ensemble": weights}}))
        app = opened(review, "predict", run, tmp_path)
        assert ("Predicted with another model than the run has now." in texts(app)) == told
        app = app.switch_page("pages/slides.py").run()
        assert ("Predicted with another model than the run has now." in texts(app)) == told


def test_predictions_without_their_slide_are_counted(review: Review, run: Path, tmp_path: Path) -> None:
    assert "Not listed" not in texts(opened(review, "predict", run, tmp_path))
    shutil.copytree(run / "predictions" / "board", run / "predictions" / "lost")
    summary = run / "predictions" / "lost" / "summary.json"
    summary.write_text(summary.read_text().replace("board.ome.tif", "lost.ome.tif"))
    app = opened(review, "predict", run, tmp_path)
    assert "Not listed (1): lost. Each slide was moved, deleted or replaced after its prediction." in texts(app)
    assert "Predicted slides (1)" in [str(found.value) for found in app.subheader]


def test_an_earlier_sign_off_is_written_beside_the_results(review: Review, run: Path, tmp_path: Path) -> None:
    sign_off(log_of(run, None), SignOff("Ben", "sighted", "board", "rejected"))
    assert _links(opened(review, "predict", run, tmp_path))["Report"] == "/report/sighted"
    said = read_signed_off(run / "predictions" / "board")
    assert said is not None
    assert (said.verdict, said.author) == ("rejected", "Ben")


def test_results_that_cannot_be_written_are_a_sentence(review: Review, run: Path, tmp_path: Path) -> None:
    sign_off(log_of(run, None), SignOff("Ben", "sighted", "board", "rejected"))
    (run / "predictions" / "board" / "sign_off.json").mkdir()
    assert "sign_off.json: cannot be written" in texts(opened(review, "predict", run, tmp_path))


def test_a_sign_off_needs_a_name(review: Review, run: Path, tmp_path: Path) -> None:
    app = opened(review, "slides", run, tmp_path, name="")
    assert [button.disabled for button in app.main.button if button.label in ("Approve", "Reject")] == [True, True]


def test_a_damaged_log_is_a_sentence(review: Review, run: Path, tmp_path: Path) -> None:
    (run / "review").mkdir()
    (run / "review" / "log.sqlite").write_bytes(b"no table" * 500)
    app = opened(review, "slides", run, tmp_path)
    assert "log.sqlite is damaged" in texts(app)
    assert "log.sqlite is damaged" in texts(press(app, "Reject"))
