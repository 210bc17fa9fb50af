"""Slides over processes: the work here is not a prediction but leaves traces of who did it."""

import os
import re
import signal
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cytoseg.errors import PredictionError
from cytoseg.predict.engines import in_processes, on_ray
from cytoseg.predict.slide import SlideSettings
from cytoseg.predict.slide_task import Outcome, SlideJob

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


def die_beside_slow(job: SlideJob) -> Outcome:
    """'fatal_beside_slow' kills its process as soon as 'slow' is in work, which the first time waits for that."""
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    if job.path.name == "fatal_beside_slow":
        while not list(job.folder.parent.glob("slow/*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    if job.path.name == "slow" and begun(job) == 1:
        time.sleep(60)
    return Outcome(job)


def begun(job: SlideJob) -> int:
    """How many processes have begun a slide."""
    return len(list(job.folder.iterdir()))


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
    jobs = make_jobs("fatal", "a")
    outcomes = told(list(in_processes(jobs, workers=1, work=leave_a_trace)))
    assert outcomes["a"] is None
    assert outcomes["fatal"] == (
        "fatal: the process died 3 times, even when run alone. Is there enough memory? "
        "A smaller predict.tile_px needs less."
    )
    assert {job.path.name: begun(job) for job in jobs} == {"fatal": 3, "a": 1}


@pytest.mark.slow
def test_a_slide_beside_one_that_kills_its_process_is_done_alone(make_jobs: Callable[..., list[SlideJob]]) -> None:
    jobs = make_jobs("fatal_beside_slow", "slow", "a", "b")
    outcomes = list(in_processes(jobs, workers=2, work=die_beside_slow))
    assert {outcome.job.path.name for outcome in outcomes[:2]} == {"a", "b"}  # the suspects wait
    assert told(outcomes).pop("fatal_beside_slow", "").startswith("fatal_beside_slow: the process died 3 times")
    assert [outcome.error for outcome in outcomes if outcome.job is not jobs[0]] == [None] * 3
    assert [begun(job) for job in jobs] == [3, 2, 1, 1]


class MadeRay(types.ModuleType):
    """Stands in for Ray: a cluster of these resources, that does each task at once in this process."""

    def __init__(self, **resources: float) -> None:
        super().__init__("ray")
        self.exceptions = types.SimpleNamespace(RayError=RuntimeError)
        self.asked: list[float] = []
        self.resources = resources
        self.init, self.shutdown = (lambda **_: None), (lambda: None)

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def remote(self, *, num_gpus: float, **_options: float) -> Callable[..., types.SimpleNamespace]:
        self.asked.append(num_gpus)
        return lambda work: types.SimpleNamespace(remote=lambda job: Done(work(job)))

    def wait(self, tasks: list["Done"], **_options: int) -> tuple[list["Done"], list["Done"]]:
        return tasks[:1], tasks[1:]

    def get(self, task: "Done") -> Outcome:
        return task.outcome


@dataclass(eq=False)
class Done:
    """A task of the made Ray."""

    outcome: Outcome


@pytest.mark.parametrize(
    ("device", "cluster", "wanted"),
    [
        ("auto", {"CPU": 2.0}, 0),  # one that is asked for would be waited for, for ever
        ("auto", {"CPU": 2.0, "GPU": 4.0}, 1),
        ("cpu", {"CPU": 2.0, "GPU": 4.0}, 0),
        ("cuda", {"CPU": 2.0, "GPU": 1.0}, 1),
    ],
)
def test_ray_is_asked_for_a_gpu_where_there_is_one(
    make_jobs: Callable[..., list[SlideJob]],
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    cluster: dict[str, float],
    wanted: int,
) -> None:
    ray = MadeRay(**cluster)
    monkeypatch.setitem(sys.modules, "ray", ray)
    jobs = [replace(job, device=device) for job in make_jobs("a", "b")]
    assert told(list(on_ray(jobs, address=None, work=Outcome))) == {"a": None, "b": None}
    assert ray.asked == [wanted]


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_cluster_without_the_gpu_that_is_asked_for_is_refused(
    make_jobs: Callable[..., list[SlideJob]], monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", MadeRay(CPU=2.0))
    (job,) = make_jobs("a")
    with pytest.raises(
        PredictionError, match=f"device '{device}': the Ray cluster has no GPU. Use training.device=auto"
    ):
        list(on_ray([replace(job, device=device)], address=None))


def test_a_ray_task_finds_its_files_from_any_folder(
    make_jobs: Callable[..., list[SlideJob]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", MadeRay(CPU=2.0))
    monkeypatch.chdir(tmp_path)
    (made,) = make_jobs("a")
    job = replace(made, path=Path("a"), folder=Path("out/a"), bundle=Path("bundle"))
    seen: list[SlideJob] = []

    def work(job: SlideJob) -> Outcome:
        seen.append(job)
        return Outcome(job)

    (outcome,) = on_ray([job], address=None, work=work)
    assert [(job.path, job.folder, job.bundle) for job in seen] == [
        (tmp_path / "a", tmp_path / "out" / "a", tmp_path / "bundle")
    ]
    assert outcome.job is job  # as it was named


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
        with pytest.raises(PredictionError, match=f"--address {re.escape(address)}: no Ray cluster responds there"):
            list(on_ray(make_jobs("a"), address=address))
