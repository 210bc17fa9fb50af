"""Slides over processes: the work here is not a prediction but leaves traces of who did it."""

import os
import re
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from cytoseg.errors import PredictionError
from cytoseg.predict.engines import in_processes, on_ray
from cytoseg.predict.job import Outcome, SlideJob
from cytoseg.predict.slide import SlideSettings

SETTINGS = SlideSettings(tile_px=8, overlap_px=2, batch=1, mpp=None, assume_mpp=None)


@pytest.fixture(autouse=True)
def nothing_to_start_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spawned process runs the main module again, which in a suite may be a page that another test has run."""
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))


@pytest.fixture
def make_jobs(tmp_path: Path) -> Callable[..., list[SlideJob]]:
    def make(*names: str) -> list[SlideJob]:
        return [
            SlideJob(tmp_path / name, tmp_path / "out" / name, tmp_path, SETTINGS, None, None, {"bundle": "abc"}, "cpu")
            for name in names
        ]

    return make


def leave_a_trace(job: SlideJob) -> Outcome:
    """Write down who was here; 'fails' fails, 'fatal' kills its process each time, 'once' only the first time."""
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / str(os.getpid())).touch()
    name = job.path.name
    if name == "fatal" or (name == "once" and len(list(job.folder.iterdir())) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome(job, "broken" if name == "fails" else None)


def told(outcomes: list[Outcome]) -> dict[str, str | None]:
    assert len({outcome.job.path for outcome in outcomes}) == len(outcomes)
    return {outcome.job.path.name: outcome.error for outcome in outcomes}


def test_each_slide_is_done_once_by_another_process(make_jobs: Callable[..., list[SlideJob]]) -> None:
    jobs = make_jobs("a", "b", "fails", "c")
    outcomes = list(in_processes(jobs, workers=2, work=leave_a_trace))
    assert told(outcomes) == {"a": None, "b": None, "fails": "broken", "c": None}
    assert all(outcome.job in jobs for outcome in outcomes)
    pids = [[int(path.name) for path in job.folder.iterdir()] for job in jobs]
    assert all(len(of_slide) == 1 for of_slide in pids)
    assert len({pid for (pid,) in pids}) <= 2
    assert os.getpid() not in {pid for (pid,) in pids}


def test_a_slide_whose_process_dies_is_begun_again(make_jobs: Callable[..., list[SlideJob]]) -> None:
    jobs = make_jobs("a", "once", "b")
    assert told(list(in_processes(jobs, workers=1, work=leave_a_trace))) == {"a": None, "once": None, "b": None}
    assert len(list(jobs[1].folder.iterdir())) == 2


def test_a_slide_that_kills_every_process_is_given_up(make_jobs: Callable[..., list[SlideJob]]) -> None:
    outcomes = told(list(in_processes(make_jobs("a", "fatal"), workers=1, work=leave_a_trace)))
    assert outcomes["a"] is None
    assert outcomes["fatal"] == "fatal: the process died 3 times. Is there memory enough for --workers?"


@pytest.mark.slow
def test_ray_does_each_slide_and_begins_again_what_was_killed(make_jobs: Callable[..., list[SlideJob]]) -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    jobs = make_jobs("a", "once", "fails", "b", "fatal")
    outcomes = told(list(on_ray(jobs, address=None, work=leave_a_trace)))
    assert outcomes.pop("fatal", "").startswith("fatal: the process died 3 times")
    assert outcomes == {"a": None, "once": None, "fails": "broken", "b": None}
    assert [len(list(job.folder.iterdir())) for job in jobs] == [1, 2, 1, 1, 3]


def test_ray_is_asked_for_where_it_is_missing(
    make_jobs: Callable[..., list[SlideJob]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PredictionError, match=r"--engine ray needs Ray: pip install 'cytoseg\[cluster\]'"):
        list(on_ray(make_jobs("a"), address=None))


def test_a_cluster_that_does_not_answer_is_named(make_jobs: Callable[..., list[SlideJob]]) -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(PredictionError, match=f"--address {re.escape(address)}: no Ray cluster answers there"):
            list(on_ray(make_jobs("a"), address=address))
