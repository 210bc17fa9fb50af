"""Runs, provenance and predictions read from a folder."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cytoseg.classes import ClassList
from cytoseg.duration_text import duration_text
from cytoseg.errors import CytosegError
from cytoseg.evaluation import run_folder
from cytoseg.evaluation.run_folder import (
    find_runs,
    is_of_another_model,
    is_run,
    moment_of,
    predictions,
    read_classes,
    read_provenance,
    read_summary,
    time_text,
)
from cytoseg.running import Running
from tests.shut import shut

MADE = Path(__file__).parents[1] / "apps" / "made_run"


def test_runs_are_listed_latest_first_and_other_folders_left_out(tmp_path: Path) -> None:
    for name, file, moment in (("old", "recipe.yaml", 1), ("new", "run.json", 2), ("notes", "notes.txt", 3)):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
        os.utime(tmp_path / name / file, (moment, moment))
    assert [run.name for run in find_runs(tmp_path)] == ["new", "old"]
    assert find_runs(tmp_path / "missing") == []


def test_a_folder_that_may_not_be_entered_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lost+found", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").touch()
    shut(monkeypatch, tmp_path / "lost+found")
    assert [run.name for run in find_runs(tmp_path)] == ["mine"]
    assert [is_run(tmp_path / name) for name in ("lost+found", "mine")] == [False, True]


def test_a_run_that_is_removed_while_runs_are_listed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("going", "staying"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").touch()
    real = os.stat

    def removing(path: Path, **options: bool) -> os.stat_result:
        found = real(path, **options)
        if Path(path) == tmp_path / "going" / "run.json":
            Path(path).unlink()
        return found

    monkeypatch.setattr(os, "stat", removing)
    found = [run.name for run in find_runs(tmp_path)]
    assert sorted(found) in (["going", "staying"], ["staying"])
    assert [run.name for run in find_runs(tmp_path)] == ["staying"]


def test_a_folder_of_runs_that_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    shut(monkeypatch, tmp_path / "runs")
    with pytest.raises(CytosegError, match=r"^runs: cannot be read \(Permission denied\)\. Ask its owner"):
        find_runs(tmp_path / "runs")


def test_a_command_that_ends_while_its_run_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([[Running("train-ddpm", "lbc", "2026-01-01T00:00:00+00:00", "running")], []])
    monkeypatch.setattr(run_folder, "running_in", lambda _run: next(looks))
    found = read_provenance(tmp_path)
    assert found is not None
    assert (found.recipe, [command.outcome for command in found.commands]) == ("lbc", ["running"])


@pytest.mark.parametrize("what", ["", "run.json"])
def test_a_provenance_that_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    shut(monkeypatch, run / what)
    with pytest.raises(CytosegError, match=r"^run/run\.json: cannot be read \(Permission denied\)\."):
        read_provenance(run)


def test_predictions_that_may_not_be_read_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("open", "closed"):
        (tmp_path / "predictions" / name).mkdir(parents=True)
        (tmp_path / "predictions" / name / "summary.json").touch()
    with monkeypatch.context() as patched:
        shut(patched, tmp_path / "predictions" / "closed")
        assert [folder.name for folder in predictions(tmp_path)] == ["open"]
    shut(monkeypatch, tmp_path / "predictions")
    assert predictions(tmp_path) == []


def test_provenance_values(tmp_path: Path) -> None:
    found = read_provenance(MADE)
    assert found is not None
    assert found.recipe == "quickstart"
    assert [entry.command for entry in found.commands] == ["train-ddpm", "train-ddpm", "evaluate"]
    assert (found.commands[0].outcome, found.commands[0].seconds, found.commands[0].seed) == ("interrupted", 331.0, 7)
    assert found.commands[0].versions["torch"] == "2.13.0"
    assert read_provenance(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 1, "comm', "run.json: the file is not complete JSON"),
        ("[]", "run.json: the file contains no record"),
        ('{"format": 9}', "run.json: format 9 was found, this version reads format 1"),
        ('{"format": 1, "commands": [3]}', "run.json: 'commands' is not a list of records"),
    ],
)
def test_a_damaged_provenance_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(CytosegError, match=message):
        read_provenance(tmp_path)


def test_a_command_of_which_little_is_known(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 1, "recipe": "r", "commands": [{"command": "predict"}]}')
    found = read_provenance(tmp_path)
    assert found is not None
    entry = found.commands[0]
    assert (entry.command, entry.seconds, entry.seed, entry.versions) == ("predict", None, None, {})


def test_predictions_are_folders_that_hold_something_to_show(tmp_path: Path) -> None:
    for name in ("b", "a", "empty", ".c.part"):
        (tmp_path / "predictions" / name).mkdir(parents=True)
    (tmp_path / "predictions" / "a" / "preview.png").touch()
    (tmp_path / "predictions" / "b" / "summary.json").touch()
    (tmp_path / "predictions" / ".c.part" / "preview.png").touch()  # of a slide that is not finished
    assert [folder.name for folder in predictions(tmp_path)] == ["a", "b"]
    assert predictions(tmp_path / "missing") == []


def test_summary_becomes_rows(tmp_path: Path) -> None:
    summary = {
        "format": 1,
        "mpp": 0.25,
        "width_px": 30000,
        "glass skipped": True,
        "note": None,
        "size": [3, 4],
        "mean": {"disagreement": 0.12346, "area": 123456.7},
        "level": [{"mpp": 1}, {"mpp": 2}],
        "classes": {"nucleus": {"pixels": 1234, "share": 0.0512, "area_um2": 2500000}, "cell": {}},
        "objects": {"nucleus": {"objects": 1495, "pixels": 95850}},
        "bundle": {"labels": {"crop_1": "abc"}},
        "versions": {"torch": "2.13.0"},
        "provenance": {"vote": "soft"},
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    found = read_summary(tmp_path)
    assert found is not None
    assert found.facts == (
        ("mpp", "0.25"),
        ("width px", "30,000"),
        ("glass skipped", "yes"),
        ("note", "-"),
        ("size", "3, 4"),
        ("mean, disagreement", "0.1235"),
        ("mean, area", "123,457"),
        ("level 1, mpp", "1"),
        ("level 2, mpp", "2"),
        ("objects: nucleus", "1,495"),
    )
    assert found.classes == (("nucleus", "1,234", "5.12 %", "2.5"), ("cell", "-", "-", "-"))
    assert found.provenance == (("vote", "soft"), ("torch", "2.13.0"))
    assert read_summary(tmp_path / "missing") is None


def test_a_damaged_summary_is_named(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(CytosegError, match=r"summary.json: the file is not complete JSON"):
        read_summary(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.14, "0.1 s"),
        (42, "42 s"),
        (59.6, "1 min 00 s"),
        (252.4, "4 min 12 s"),
        (3599.9, "1 h 00 min"),
        (12000, "3 h 20 min"),
    ],
)
def test_duration_text(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


def test_time_text() -> None:
    assert time_text("2026-03-02T10:20:30") == "2026-03-02 10:20"
    assert time_text("yesterday") == "yesterday"


def _write_state(run: Path, state: object) -> None:
    folder = run / "interpreter" / "bundle"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps(state))


@pytest.mark.parametrize("fill", ["glass", None])
def test_the_class_list_is_that_of_the_interpreters(tmp_path: Path, fill: str | None) -> None:
    assert read_classes(tmp_path) is None
    _write_state(tmp_path, {"classes": {"names": ["glass", "cell"], "colours": [[1, 2, 3], [4, 5, 6]], "fill": fill}})
    assert read_classes(tmp_path) == ClassList(("glass", "cell"), ((1, 2, 3), (4, 5, 6)), fill)


@pytest.mark.parametrize(
    "classes",
    [
        None,
        {"names": ["a"], "colours": [[1, 2, 3]]},
        {"names": ["a", "b"], "colours": [[1, 2, 3]], "fill": None},
        {"names": ["a"], "colours": [[1, 2]], "fill": None},
        {"names": ["a"], "colours": [[1, 2, "red"]], "fill": None},
        {"names": ["a"], "colours": [[1, 2, 3]], "fill": "b"},
        {"names": 3, "colours": [], "fill": None},
    ],
)
def test_a_damaged_class_list_is_said(tmp_path: Path, classes: object) -> None:
    _write_state(tmp_path, {"classes": classes})
    message = r"^bundle/state\.json: the class list is damaged\. Run `cytoseg train-interpreter` again\.$"
    with pytest.raises(CytosegError, match=message):
        read_classes(tmp_path)


def test_times_are_compared_whatever_their_zone() -> None:
    assert moment_of("2026-03-02T12:20:30+02:00") == datetime(2026, 3, 2, 10, 20, 30, tzinfo=UTC)
    assert moment_of("2026-03-02T12:20:30") == datetime(2026, 3, 2, 12, 20, 30).astimezone()
    assert moment_of("yesterday") is None


def test_a_prediction_of_another_model_is_known(tmp_path: Path) -> None:
    prediction, bundle = tmp_path / "predictions" / "a", tmp_path / "interpreter" / "bundle"
    prediction.mkdir(parents=True)
    bundle.mkdir(parents=True)
    made = {"provenance": {"bundle": {"sha256": {"ensemble": "1", "backbone": "2"}}}}
    (prediction / "summary.json").write_text(json.dumps(made))
    assert not is_of_another_model(tmp_path, prediction)  # the run has no model any more
    for weights, differs in (({"backbone": "2", "ensemble": "1"}, False), ({"ensemble": "1"}, True), ({}, False)):
        state = {"classes": {"names": ["cell"], "colours": [[0, 0, 0]], "fill": None}, "sha256": weights}
        (bundle / "state.json").write_text(json.dumps(state))
        assert is_of_another_model(tmp_path, prediction) == differs
    (bundle / "state.json").write_text("{")
    assert not is_of_another_model(tmp_path, prediction)
    (prediction / "summary.json").write_text("{}")
    assert not is_of_another_model(tmp_path, prediction)
