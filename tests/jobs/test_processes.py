"""Identifying processes by pid and start time."""

import os
import shutil
import subprocess
import sys

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


@pytest.mark.skipif(shutil.which("ps") is None, reason="no ps")
def test_without_proc_the_system_is_asked() -> None:
    assert processes._birth_by_ps(os.getpid())
    assert processes._birth_by_ps(2**22 + 5) is None
