"""Detached processes, identified by pid and start time."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytoseg.process_table import start_time

_STAT, _STARTED = 0, 19
"""Fields of state and start time in /proc/PID/stat, counted after the name in brackets."""
_ENDED = ("Z", "X")
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
_CAN_BLOCK = hasattr(signal, "pthread_sigmask")
_OWN_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
"""On Windows a process group takes the place of a session; the process still ends with its console window."""


@dataclass(frozen=True)
class Process:
    """A process: its pid, and its start time as reported by the system."""

    pid: int
    birth: str

    def is_alive(self) -> bool:
        """Return whether this process is running, not another one that reuses its pid."""
        return bool(self.birth) and birth_of(self.pid) == self.birth

    def interrupt(self) -> bool:
        """Send SIGINT, on Windows SIGBREAK, to the process group, like Ctrl-C; return whether the process existed."""
        if not self.is_alive():
            return False
        try:
            if sys.platform == "win32":
                os.kill(self.pid, signal.CTRL_BREAK_EVENT)
            else:
                os.killpg(self.pid, signal.SIGINT)
        except OSError:
            return False
        return True


def start_apart(command: Sequence[str], *, folder: Path, surroundings: Mapping[str, str]) -> Process:
    """Start a process in its own session, so that it survives the end of the terminal, server or browser.

    An interrupt that reaches it before it can handle one waits until it calls ``receive_interrupts``.

    Args:
        command: Program and arguments.
        folder: Working directory.
        surroundings: Environment variables.

    Raises:
        OSError: If it cannot be started.
    """
    nothing = subprocess.DEVNULL
    with _interrupts_blocked():
        started = subprocess.Popen(
            command,
            cwd=folder,
            env=surroundings,
            stdin=nothing,
            stdout=nothing,
            stderr=nothing,
            start_new_session=True,
            creationflags=_OWN_GROUP,
        )
    # The parent must wait for it, or it remains a zombie as long as the parent lives.
    threading.Thread(target=started.wait, name=f"end of {started.pid}", daemon=True).start()
    return Process(started.pid, birth_of(started.pid) or "")


def receive_interrupts() -> None:
    """Deliver the interrupts that came since ``start_apart``; called once they can be handled."""
    if _CAN_BLOCK:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block interrupts in this thread; a process started meanwhile begins with them blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS) if _CAN_BLOCK else set()
    try:
        yield
    finally:
        if _CAN_BLOCK:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def birth_of(pid: int) -> str | None:
    """Return the start time of a process as reported by the system; None if it does not exist or has ended."""
    if pid <= 1:
        return None
    stat = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self/stat").exists():
        return start_time(pid)
    try:
        fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[_STAT] in _ENDED else fields[_STARTED]
