"""List entries of runs and evaluations, and their caching."""

import importlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from cytoseg.active_learning import queue
from cytoseg.errors import CytosegError
from tests.apps.conftest import APP


@pytest.fixture
def listing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(APP.parent))
    return importlib.import_module("listing")


def _write(path: Path, **changed: object) -> None:
    before = path.stat().st_mtime_ns
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    os.utime(path, ns=(before + 1, before + 1))  # a clock may be too coarse to tell the two


def _unread(*_: object) -> None:
    raise AssertionError("read again")


def test_a_row_is_read_once_for_each_time_that_a_file_is_written(
    listing: ModuleType, made_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = listing.row(made_run)
    assert (row["Run"], row["Recipe"], row["Test"]) == ("quickstart", "quickstart", "6 crops, 3 slides")
    assert (row["Mean IoU"], row["IoU nucleus"], row["IoU debris"]) == ("0.81 (0.76-0.85)", "0.62 (0.55-0.68)", "n/a")
    row["Test"] = "changed by whoever asked"
    with monkeypatch.context() as patched:
        patched.setattr(listing, "read_evaluation", _unread)
        assert listing.row(made_run)["Test"] == "6 crops, 3 slides"
    _write(made_run / "evaluation" / "evaluation.json", test_crops=7)
    assert listing.row(made_run)["Test"] == "7 crops, 3 slides"
    _write(made_run / "run.json", recipe="other")
    assert listing.row(made_run)["Recipe"] == "other"
    (made_run / "evaluation" / "evaluation.json").unlink()
    assert listing.row(made_run)["Mean IoU"] == "not evaluated"


def test_whatever_is_wrong_with_one_run_is_said_in_its_row(
    listing: ModuleType, made_run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(run: Path) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(listing, "read_provenance", broken)
    assert listing.row(made_run)["Outcome"] == "a file of this run is damaged"
    monkeypatch.setattr(listing, "read_evaluation_file", broken)
    with pytest.raises(CytosegError, match=r"^A file of this run cannot be read \(RecursionError\)\.$"):
        listing.entry(made_run, made_run / "evaluation" / "evaluation.json")
    assert "too deep" in caplog.text


def test_an_entry_is_read_once_for_each_time_that_the_file_is_written(
    listing: ModuleType, made_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made_run / "evaluation" / "evaluation.json"
    entry = listing.entry(made_run, path)
    assert entry.title.startswith("quickstart, 2026-03-02 ")
    assert entry.title.endswith(", mean IoU 0.81")
    assert entry.moment == datetime(2026, 3, 2, 10, 20, 30, tzinfo=UTC)
    with monkeypatch.context() as patched:
        patched.setattr(listing, "read_evaluation_file", _unread)
        assert listing.entry(made_run, path) is entry
    _write(path, methods=[])
    assert listing.entry(made_run, path).title.endswith(", mean IoU n/a")
    path.write_text("{")
    with pytest.raises(CytosegError, match="is not complete JSON"):
        listing.entry(made_run, path)


def test_what_the_queue_compares_with_is_read_once(made_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = queue.current_scores(made_run)
    assert scored is not None
    assert (scored.train_crops, scored.miou, scored.iou["nucleus"]) == (12, 0.8067, 0.62)
    with monkeypatch.context() as patched:
        patched.setattr(queue, "read_evaluation_file", _unread)
        assert queue.current_scores(made_run) is scored
    _write(made_run / "evaluation" / "evaluation.json", train_crops=13)
    after = queue.current_scores(made_run)
    assert after is not None
    assert after.train_crops == 13
    _write(made_run / "evaluation" / "evaluation.json", methods=[])
    assert queue.current_scores(made_run) is None
    (made_run / "evaluation" / "evaluation.json").unlink()
    assert queue.current_scores(made_run) is None


@pytest.mark.usefixtures("review")
def test_an_evaluation_is_shared_and_not_copied(made_run: Path) -> None:
    state = importlib.import_module("state")
    first = state.evaluation_of(made_run)
    assert state.evaluation_of(made_run) is first
    _write(made_run / "evaluation" / "evaluation.json", test_crops=7)
    assert state.evaluation_of(made_run).test_crops == 7


@pytest.mark.slow
def test_the_app_loads_no_library_that_only_training_needs(tmp_path: Path) -> None:
    """Nor does the page Annotate, until the first live result."""
    modules = "serve, annotate_state, conflict_view, people, show_me, training"
    script = f"import sys, {modules}; print(sorted({{'torch', 'monai', 'sklearn'}} & sys.modules.keys()))"
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join([str(APP.parent), str(APP.parents[2])])}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
