"""Identifying processes by pid and start time."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cytoseg.jobs import processes
from cytoseg.jobs.processes import Process, birth_of


def test_a_process_that_has_ended_is_known_no_more() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        birth = birth_of(started.pid)
        assert birth
        assert Process(started.pid, birth).is_alive()
        assert not Process(started.pid, "another time").is_alive()
        started.kill()
        while started.poll() is None:
            pass
    assert birth_of(started.pid) is None
    assert not Process(started.pid, birth).interrupt()


@pytest.mark.parametrize("pid", [0, 1, -1])
def test_groups_and_the_first_process_are_never_a_job(pid: int) -> None:
    assert birth_of(pid) is None


def test_without_proc_the_start_time_comes_from_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "Path", lambda _path: Path("no_proc_here"))
    before = time.time()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        birth = birth_of(started.pid)
        assert birth is not None
        assert abs(float(birth) - before) < 5  # seconds since 1970; the clock of the boot is not exact
        assert Process(started.pid, birth).is_alive()
        started.kill()
        deadline = time.monotonic() + 10
        while birth_of(started.pid) is not None and time.monotonic() < deadline:
            pass
        assert birth_of(started.pid) is None  # as long as nobody has waited for it, it is a zombie
    assert birth_of(2**22 + 5) is None
