"""Runs one job to its end: waits for its turn, passes on what the command prints, records how it ended.

``python -m cytoseg.jobs.runner RUN NUMBER COMMAND...``, started by ``start.start_job`` in a session of its own.
"""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TextIO

from cytoseg.errors import CytosegError
from cytoseg.interrupts import INTERRUPTED
from cytoseg.jobs.job_table import CANCELLED, FAILED, FINISHED, RUNNING, job_of, jobs_of, log_path, now, update_job
from cytoseg.jobs.progress_lines import Progress, last_word, read_line
from cytoseg.locks import locked

PROGRAM = ("-m", "cytoseg")
LOOK_S = 0.5
"""How often a waiting job looks whether it is its turn."""
_LOGGED_S = 30.0
"""So often a line of progress goes into the log; the table has all of them."""


@dataclass
class _Cancel:
    """Whether the job shall end; a signal says so, and the command of the same group hears the same signal."""

    wanted: bool = False
    command: "subprocess.Popen[str] | None" = field(default=None, repr=False)

    def listen(self) -> None:
        """Hear Ctrl-C, and take the system's wish to end for it.

        A signal that is handled here comes to the command as if nobody had ever ignored it.
        """
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.wanted = True
        if number == signal.SIGTERM and self.command is not None:
            self.command.send_signal(signal.SIGINT)


def main(arguments: Sequence[str]) -> int:
    """Run a job; returns its exit status."""
    run, number, words = Path(arguments[0]), int(arguments[1]), arguments[2:]
    cancel = _Cancel()
    cancel.listen()
    job = job_of(run, number)
    try:
        with _turn(run, number, job.device, cancel) as mine:
            status, said = _run(run, number, words, cancel) if mine else (INTERRUPTED, "")
    except (CytosegError, OSError) as error:
        status, said = 2, str(error)
    if cancel.wanted and status != 0:
        state, said = CANCELLED, ""
    else:
        state = FINISHED if status == 0 else FAILED
    update_job(run, number, state=state, ended=now(), said="" if state == FINISHED else said, time_left="")
    return status


@contextlib.contextmanager
def _turn(run: Path, number: int, device: str, cancel: _Cancel) -> Iterator[bool]:
    """Wait until no other job uses the device, earlier ones of the run first; gives False if it was cancelled."""
    while not cancel.wanted:
        earlier = (job for job in jobs_of(run) if job.id < number and job.device == device)
        if any(not job.is_over for job in earlier):
            time.sleep(LOOK_S)
            continue
        # All runs beside this one share the machine.
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(run.parent / f"jobs-{device}", wait_s=LOOK_S, error=_BusyError))
            except _BusyError:
                continue
            yield True
            return
    yield False


class _BusyError(CytosegError):
    """Another job has the device."""


def _run(run: Path, number: int, words: Sequence[str], cancel: _Cancel) -> tuple[int, str]:
    """Run the command; returns its exit status, and the line that says why it failed."""
    update_job(run, number, state=RUNNING, started=now())
    path = log_path(run, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, *PROGRAM, *words]
    with (
        path.open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
        ) as started,
    ):
        cancel.command = started
        assert started.stdout is not None
        said = _follow(started.stdout, log, run, number)
    return started.returncode, said.removeprefix("cytoseg: ")


def _follow(lines: Iterable[str], log: TextIO, run: Path, number: int) -> str:
    """Put what a command prints where it belongs; returns the line that says why it failed, should it have."""
    said, before, logged = "", None, -_LOGGED_S
    for line in lines:
        progress, moment = read_line(line), time.monotonic()
        if progress is None:
            said = last_word(said, line)
        elif progress != before:
            _tell(run, number, progress)
            before = progress
        if progress is None or moment - logged >= _LOGGED_S:
            logged = logged if progress is None else moment
            log.write(line)
            log.flush()
    return said


def _tell(run: Path, number: int, progress: Progress) -> None:
    what = f"{progress.what}, {progress.note}" if progress.note else progress.what
    with contextlib.suppress(CytosegError):  # somebody else writes for long: the next line says more
        update_job(run, number, what=what, done=progress.done, total=progress.total, time_left=progress.left)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
