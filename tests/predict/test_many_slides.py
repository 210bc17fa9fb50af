"""Slides distributed over processes, with a traceable substitute for prediction."""

import multiprocessing
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
from cytoseg.predict.many_slides import in_processes, on_ray
from cytoseg.predict.settings import SlideSettings
from cytoseg.predict.slide_task import Outcome, SlideTask
from cytoseg.slides.settings import BackgroundSection

SETTINGS = SlideSettings(tile_px=8, overlap_px=2, batch=1, mpp=None, assume_mpp=None)


@pytest.fixture(autouse=True)
def quickly_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork where that is safe: a spawned process, as in test_many_slides.py, loads torch for seconds."""
    # A spawned process runs the main module again, which in a suite may be a page that another test has run.
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    if sys.platform == "linux":
        context = multiprocessing.get_context("fork")
        monkeypatch.setattr(multiprocessing, "get_context", lambda _: context)


@pytest.fixture
def make_tasks(tmp_path: Path) -> Callable[..., list[SlideTask]]:
    def make(*names: str) -> list[SlideTask]:
        glass = BackgroundSection()
        return [
            SlideTask(
                tmp_path / name, tmp_path / "out" / name, tmp_path, SETTINGS, None, glass, {"bundle": "abc"}, "cpu"
            )
            for name in names
        ]

    return make


def leave_a_trace(task: SlideTask) -> Outcome:
    """Write down who was here; 'fails' fails, 'fatal' kills its process each time, 'once' only the first time."""
    task.folder.mkdir(parents=True, exist_ok=True)
    (task.folder / str(os.getpid())).touch()
    name = task.path.name
    if name == "fatal" or (name == "once" and len(list(task.folder.iterdir())) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome(task, "broken" if name == "fails" else None)


def die_beside_slow(task: SlideTask) -> Outcome:
    """'fatal_beside_slow' kills its process as soon as 'slow' is in work, which the first time waits for that."""
    task.folder.mkdir(parents=True, exist_ok=True)
    (task.folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    if task.path.name == "fatal_beside_slow":
        while not list(task.folder.parent.glob("slow/*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    if task.path.name == "slow" and begun(task) == 1:
        time.sleep(60)
    return Outcome(task)


def begun(task: SlideTask) -> int:
    """How many processes have begun a slide."""
    return len(list(task.folder.iterdir()))


def told(outcomes: list[Outcome]) -> dict[str, str | None]:
    assert len({outcome.task.path for outcome in outcomes}) == len(outcomes)
    return {outcome.task.path.name: outcome.error for outcome in outcomes}


@pytest.mark.posix
def test_each_slide_is_done_once_by_another_process(make_tasks: Callable[..., list[SlideTask]]) -> None:
    tasks = make_tasks("a", "b", "fails", "c")
    outcomes = list(in_processes(tasks, workers=2, work=leave_a_trace))
    assert told(outcomes) == {"a": None, "b": None, "fails": "broken", "c": None}
    assert all(outcome.task in tasks for outcome in outcomes)
    pids = [[int(path.name) for path in task.folder.iterdir()] for task in tasks]
    assert all(len(of_slide) == 1 for of_slide in pids)
    assert len({pid for (pid,) in pids}) <= 2
    assert os.getpid() not in {pid for (pid,) in pids}


@pytest.mark.posix
def test_a_slide_whose_process_dies_is_begun_again(make_tasks: Callable[..., list[SlideTask]]) -> None:
    tasks = make_tasks("a", "once", "b")
    assert told(list(in_processes(tasks, workers=1, work=leave_a_trace))) == {"a": None, "once": None, "b": None}
    assert len(list(tasks[1].folder.iterdir())) == 2


@pytest.mark.posix
@pytest.mark.slow  # four processes, each of which loads torch
def test_a_slide_that_kills_every_process_is_given_up(make_tasks: Callable[..., list[SlideTask]]) -> None:
    tasks = make_tasks("fatal", "a")
    outcomes = told(list(in_processes(tasks, workers=1, work=leave_a_trace)))
    assert outcomes["a"] is None
    assert outcomes["fatal"] == (
        "fatal: the process died 3 times, even when run alone. Is there enough memory? "
        "A smaller predict.tile_px needs less."
    )
    assert {task.path.name: begun(task) for task in tasks} == {"fatal": 3, "a": 1}


@pytest.mark.posix
@pytest.mark.slow
def test_a_slide_beside_one_that_kills_its_process_is_done_alone(make_tasks: Callable[..., list[SlideTask]]) -> None:
    tasks = make_tasks("fatal_beside_slow", "slow", "a", "b")
    outcomes = list(in_processes(tasks, workers=2, work=die_beside_slow))
    assert {outcome.task.path.name for outcome in outcomes[:2]} == {"a", "b"}  # the suspects wait
    assert told(outcomes).pop("fatal_beside_slow", "").startswith("fatal_beside_slow: the process died 3 times")
    assert [outcome.error for outcome in outcomes if outcome.task is not tasks[0]] == [None] * 3
    assert [begun(task) for task in tasks] == [3, 2, 1, 1]


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
        return lambda work: types.SimpleNamespace(remote=lambda task: Done(work(task)))

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
        ("auto", {"CPU": 2.0}, 0),  # one that is asked for would be waited for, forever
        ("auto", {"CPU": 2.0, "GPU": 4.0}, 1),
        ("cpu", {"CPU": 2.0, "GPU": 4.0}, 0),
        ("cuda", {"CPU": 2.0, "GPU": 1.0}, 1),
    ],
)
def test_ray_is_asked_for_a_gpu_where_there_is_one(
    make_tasks: Callable[..., list[SlideTask]],
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    cluster: dict[str, float],
    wanted: int,
) -> None:
    ray = MadeRay(**cluster)
    monkeypatch.setitem(sys.modules, "ray", ray)
    tasks = [replace(task, device=device) for task in make_tasks("a", "b")]
    assert told(list(on_ray(tasks, address=None, work=Outcome))) == {"a": None, "b": None}
    assert ray.asked == [wanted]


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_cluster_without_the_gpu_that_is_asked_for_is_refused(
    make_tasks: Callable[..., list[SlideTask]], monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", MadeRay(CPU=2.0))
    (task,) = make_tasks("a")
    with pytest.raises(
        PredictionError, match=f"device '{device}': the Ray cluster has no GPU. Use training.device=auto"
    ):
        list(on_ray([replace(task, device=device)], address=None))


def test_a_ray_task_finds_its_files_from_any_folder(
    make_tasks: Callable[..., list[SlideTask]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", MadeRay(CPU=2.0))
    monkeypatch.chdir(tmp_path)
    (made,) = make_tasks("a")
    task = replace(made, path=Path("a"), folder=Path("out/a"), bundle=Path("bundle"))
    seen: list[SlideTask] = []

    def work(task: SlideTask) -> Outcome:
        seen.append(task)
        return Outcome(task)

    (outcome,) = on_ray([task], address=None, work=work)
    assert [(task.path, task.folder, task.bundle) for task in seen] == [
        (tmp_path / "a", tmp_path / "out" / "a", tmp_path / "bundle")
    ]
    assert outcome.task is task  # as it was named


@pytest.mark.posix
@pytest.mark.slow
def test_ray_does_each_slide_and_begins_again_what_was_killed(make_tasks: Callable[..., list[SlideTask]]) -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    tasks = make_tasks("a", "once", "fails", "b", "fatal")
    outcomes = told(list(on_ray(tasks, address=None, work=leave_a_trace)))
    assert outcomes.pop("fatal", "").startswith("fatal: the process died 3 times")
    assert outcomes == {"a": None, "once": None, "fails": "broken", "b": None}
    assert [len(list(task.folder.iterdir())) for task in tasks] == [1, 2, 1, 1, 3]


def test_ray_is_asked_for_where_it_is_missing(
    make_tasks: Callable[..., list[SlideTask]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PredictionError, match=r"--engine ray needs Ray: pip install 'cytoseg\[cluster\]'"):
        list(on_ray(make_tasks("a"), address=None))


def test_a_cluster_that_does_not_answer_is_named(make_tasks: Callable[..., list[SlideTask]]) -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(PredictionError, match=f"--address {re.escape(address)}: no Ray cluster responds there"):
            list(on_ray(make_tasks("a"), address=address))
