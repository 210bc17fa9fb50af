import os
import subprocess
import sys

import pytest

from cytoseg import interrupts, running
from cytoseg.process_table import command_line, exists, start_time


def test_a_process_is_known_until_it_ends() -> None:
    words = [sys.executable, "-c", "input()", "", "ä"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as started:
        assert exists(started.pid)
        assert command_line(started.pid)[1:] == words[1:]
        assert start_time(started.pid) == start_time(started.pid) != start_time(os.getpid())
    assert not exists(started.pid)
    assert command_line(started.pid) == []
    assert start_time(started.pid) is None


def test_on_windows_no_signal_asks_for_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """There ``os.kill(pid, 0)`` is a Ctrl-C, and a process keeps the pid of a parent that has ended."""
    asked = list[int]()

    def known(pid: int) -> bool:
        asked.append(pid)
        return pid != 5

    monkeypatch.setattr(running, "exists", known, raising=False)  # loaded on Windows only
    monkeypatch.setattr(interrupts, "exists", known, raising=False)
    with monkeypatch.context() as windows:
        windows.setattr(os, "kill", lambda *_given: pytest.fail("a signal was sent"))
        windows.setattr(os, "name", "nt")
        found = [running.is_process(4), running.is_process(5)]
        windows.setattr(os, "getppid", lambda: 5)
        parents = [interrupts._is_parent(5), interrupts._is_parent(4)]
        windows.setattr(os, "getppid", lambda: 4)
        parents.append(interrupts._is_parent(4))
    assert (found, parents, asked) == ([True, False], [False, False, True], [4, 5, 5, 4])
