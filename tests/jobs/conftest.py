"""A run folder, and a substitute for ``python -m cytoseg`` run by real runners."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cytoseg.jobs import start_and_cancel
from cytoseg.jobs.job_database import JobPlace
from cytoseg.jobs.job_table import Job, job_of

WORDS = """\
import pathlib, signal, sys, time
print("features 1 of 4, 2 s so far, about 6 s to go", flush=True)
run = pathlib.Path(sys.argv[-1]).parent
(run / "began").write_text(" ".join(sys.argv[1:]))
try:
    if "study" in sys.argv:
        time.sleep(60)
    if "evaluate" in sys.argv:
        print("something odd\\ncytoseg: run: no bundle yet. Train first.\\nlast line", flush=True)
        sys.exit(2)
    print("all is well", flush=True)
except KeyboardInterrupt:
    (run / "interrupted").touch()
    sys.exit(130)
"""
"""A command that is over at once, waits for a minute (study) or fails (evaluate)."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """runs/tiny."""
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def begin(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Start a job on the made program, with a real runner that loads little."""
    (tmp_path / "cytoseg_made.py").write_text(WORDS)
    code = f"import sys; from cytoseg.jobs import runner; runner.PROGRAM = {str(tmp_path / 'cytoseg_made.py')!r}, ;"
    code += "runner.LOOK_S = runner.SERVER_LOOK_S = 0.1;"  # between two looks whether it is a job's turn
    # Only test_shared_jobs.py gives an address, and may let a file stand for a server.
    code += "from cytoseg.jobs import job_database; job_database.is_file = lambda _: False;"
    (tmp_path / "made_runner.py").write_text(f"{code} sys.exit(runner.main(sys.argv[1:]))\n")
    monkeypatch.setattr(start_and_cancel, "RUNNER", "made_runner")
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), str(tmp_path), os.environ.get("PYTHONPATH", "")]))

    def started(command: str = "train-interpreter", author: str = "Anna", device: str = "first", **more: str) -> int:
        given = list(more.values())
        return begin_at(JobPlace(run), command, author=author, device=device, given=given)

    return started


def begin_at(
    place: JobPlace, command: str, *, author: str = "Anna", device: str = "first", given: Sequence[str] = ()
) -> int:
    """Start a job of a run whose jobs are recorded somewhere; needs the fixture ``begin``."""
    return start_and_cancel.start_job(
        place, command, keys=given, given=given, author=author, device=device, base=place.run.parent.parent
    )


def wait_for(place: Path | JobPlace, number: int, *states: str, wait_s: float = 20) -> Job:
    """Wait until a job is in one of some states."""
    end, there = time.monotonic() + wait_s, JobPlace(place) if isinstance(place, Path) else place
    while (job := job_of(there, number)).state not in states:
        assert time.monotonic() < end, job
        time.sleep(0.05)
    return job
