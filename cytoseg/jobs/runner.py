"""Runs one job: waits for its turn, records progress and outcome.

``python -m cytoseg.jobs.runner RUN NUMBER COMMAND...``, started by ``start.start_job`` in its own session.
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
from cytoseg.jobs.processes import receive_interrupts
from cytoseg.jobs.progress_lines import Progress, last_word, read_line
from cytoseg.locks import locked

PROGRAM = ("-m", "cytoseg")
LOOK_S = 0.5
"""Polling interval of a waiting job in seconds."""
_LOGGED_S = 30.0
"""Interval of progress lines in the log in seconds; the table is updated with every line."""


@dataclass
class _Cancel:
    """Cancellation by a signal, which the command in the same process group also receives."""

    wanted: bool = False
    command: "subprocess.Popen[str] | None" = field(default=None, repr=False)

    def listen(self) -> None:
        """Handle SIGINT, and treat SIGTERM and SIGHUP the same.

        A signal handled here reaches the command with its default action, even if it was ignored before.
        """
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        receive_interrupts()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.wanted = True
        if number == signal.SIGTERM and self.command is not None:
            self.command.send_signal(signal.SIGINT)


def main(arguments: Sequence[str]) -> int:
    """Run a job; return its exit status."""
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
    """Wait until no other job uses the device, earlier ones of the run first; return False if cancelled."""
    while not cancel.wanted:
        earlier = (job for job in jobs_of(run) if job.id < number and job.device == device)
        if any(not job.is_over for job in earlier):
            time.sleep(LOOK_S)
            continue
        # All runs in the same parent folder share the machine.
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(run.parent / f"jobs-{device}", wait_s=LOOK_S, error=_BusyError))
            except _BusyError:
                continue
            yield True
            return
    yield False


class _BusyError(CytosegError):
    """Another job is using the device."""


def _run(run: Path, number: int, words: Sequence[str], cancel: _Cancel) -> tuple[int, str]:
    """Run the command; return its exit status and the line that explains a failure."""
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
    """Forward a command's output to table and log; return the line that would explain a failure."""
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
    with contextlib.suppress(CytosegError):  # the table is locked: the next line will update it
        update_job(run, number, what=what, done=progress.done, total=progress.total, time_left=progress.left)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
