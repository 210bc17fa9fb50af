"""Processes that outlive their starter, known again by number and birth: numbers are used again."""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_STAT, _STARTED = 0, 19
"""Places of the state and of the start time in /proc/PID/stat, counted behind the name in brackets."""
_ENDED = ("Z", "X")


@dataclass(frozen=True)
class Process:
    """A process: its number, and when it was born as the system writes it."""

    pid: int
    birth: str

    def is_alive(self) -> bool:
        """Return whether this very process runs, not another that has got its number."""
        return bool(self.birth) and birth_of(self.pid) == self.birth

    def interrupt(self) -> bool:
        """Do as Ctrl-C does in a terminal, to the process and all in its group; returns whether it was there."""
        if not self.is_alive():
            return False
        try:
            os.killpg(self.pid, signal.SIGINT)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def start_apart(command: Sequence[str], *, folder: Path, surroundings: Mapping[str, str]) -> Process:
    """Start a process in a session of its own: no terminal, server or browser that ends takes it along.

    Args:
        command: Program and arguments.
        folder: To start in.
        surroundings: Its environment variables.

    Raises:
        OSError: If it cannot be started.
    """
    nothing = subprocess.DEVNULL
    started = subprocess.Popen(
        command, cwd=folder, env=surroundings, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
    )
    # Whoever started it must ask for its end, or it stays in the system's table as long as the starter lives.
    threading.Thread(target=started.wait, name=f"end of {started.pid}", daemon=True).start()
    return Process(started.pid, birth_of(started.pid) or "")


def birth_of(pid: int) -> str | None:
    """Return when a process was born, in the system's own words; None if there is none, or it has ended."""
    if pid <= 1:
        return None
    stat = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self/stat").exists():
        return _birth_by_ps(pid)
    try:
        fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[_STAT] in _ENDED else fields[_STARTED]


def _birth_by_ps(pid: int) -> str | None:
    """Ask ``ps``, where the system has no /proc."""
    asked = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    return None if not told or told[0].startswith(_ENDED) else " ".join(told[1:])
