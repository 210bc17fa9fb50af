"""Runs one job: waits for its turn, records progress and outcome.

``python -m cytoseg.jobs.runner RUN NUMBER URL COMMAND...``, started by ``start_and_cancel.start_job`` in its own
session; URL is that of a shared database or empty.
"""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TextIO, TypeVar

from cytoseg.errors import CytosegError
from cytoseg.interrupts import INTERRUPTED
from cytoseg.jobs.job_database import JobPlace
from cytoseg.jobs.job_table import (
    BEAT_S,
    CANCELLED,
    FAILED,
    FINISHED,
    RUNNING,
    Job,
    begun_job,
    jobs_before,
    log_path,
    now,
    renew_job,
    update_job,
)
from cytoseg.jobs.processes import receive_interrupts
from cytoseg.jobs.progress_lines import Progress, last_word, read_line
from cytoseg.locks import locked

Value = TypeVar("Value")

PROGRAM = ("-m", "cytoseg")
LOOK_S = 0.5
"""Polling interval of a waiting job in seconds."""
SERVER_LOOK_S = 2.0
"""The same in a database on a server, for which every look is a connection."""
AGAIN_S = (1.0, 10.0, 60.0, 300.0, 900.0)
"""Pauses after which an unreachable server is asked again: a training of days must not be lost to its restart."""
_LOGGED_S = 30.0
"""Interval of progress lines in the log in seconds; the table is updated with every line."""


@dataclass
class _Cancel:
    """Cancellation by a signal, which the command in the same process group also receives."""

    wanted: bool = False
    command: "subprocess.Popen[str] | None" = field(default=None, repr=False)

    def listen(self) -> None:
        """Handle SIGINT and SIGTERM, and on Windows SIGBREAK.

        A signal handled here reaches the command with its default action, even if it was ignored before.
        """
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        if sys.platform == "win32":
            signal.signal(signal.SIGBREAK, self._on_signal)
        receive_interrupts()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.wanted = True
        if number == signal.SIGTERM and self.command is not None:
            self.command.send_signal(signal.SIGINT)


def main(arguments: Sequence[str]) -> int:
    """Run a job; return its exit status."""
    place, number, words = JobPlace(Path(arguments[0]), arguments[2] or None), int(arguments[1]), arguments[3:]
    cancel = _Cancel()
    cancel.listen()
    job = begun_job(place, number)
    try:
        with _signs_of_life(place, number), _turn(place, job, cancel) as mine:
            status, said = _run(place, number, words, cancel) if mine else (INTERRUPTED, "")
    except (CytosegError, OSError) as error:
        status, said = 2, str(error)
    if cancel.wanted and status != 0:
        state, said = CANCELLED, ""
    else:
        state = FINISHED if status == 0 else FAILED
    end = partial(update_job, place, number, state=state, ended=now(), time_left="")
    _patiently(place, partial(end, said="" if state == FINISHED else said))
    return status


@contextlib.contextmanager
def _turn(place: JobPlace, job: Job, cancel: _Cancel) -> Iterator[bool]:
    """Wait until no other job uses the device, earlier ones first; return False if cancelled."""
    while not cancel.wanted:
        if _patiently(place, partial(jobs_before, place, job)):
            time.sleep(LOOK_S if place.server is None else SERVER_LOOK_S)
            continue
        # All runs in the same parent folder share the machine.
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(place.run.parent / f"jobs-{job.device}", wait_s=LOOK_S, error=_BusyError))
            except _BusyError:
                continue
            yield True
            return
    yield False


@contextlib.contextmanager
def _signs_of_life(place: JobPlace, number: int) -> Iterator[None]:
    """Tell a shared table during the block that this machine is alive, however long the command is silent."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_S):
            with contextlib.suppress(CytosegError):  # the server is away: the next one may reach it
                renew_job(place, number)

    if place.server is not None:
        threading.Thread(target=beat, name="signs of life", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _patiently(place: JobPlace, do: Callable[[], Value]) -> Value:
    """Read or write the table; on a server, try again after pauses."""
    for pause_s in () if place.server is None else AGAIN_S:
        try:
            return do()
        except CytosegError:
            time.sleep(pause_s)
    return do()


class _BusyError(CytosegError):
    """Another job is using the device."""


def _run(place: JobPlace, number: int, words: Sequence[str], cancel: _Cancel) -> tuple[int, str]:
    """Run the command; return its exit status and the line that explains a failure."""
    _patiently(place, partial(update_job, place, number, state=RUNNING, started=now()))
    path = log_path(place, number)
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
        said = _follow(started.stdout, log, place, number)
    return started.returncode, _killed(-started.returncode) or said.removeprefix("cytoseg: ")


def _killed(number: int) -> str:
    """Say that a command was ended by a signal; empty for other numbers."""
    if number not in {*signal.Signals}:
        return ""
    name = signal.Signals(number).name
    return f"The command was killed ({name}), often because the memory was full. Close other programs first."


def _follow(lines: Iterable[str], log: TextIO, place: JobPlace, number: int) -> str:
    """Forward a command's output to table and log; return the line that would explain a failure."""
    said, before, logged = "", None, -_LOGGED_S
    for line in lines:
        progress, moment = read_line(line), time.monotonic()
        if progress is None:
            said = last_word(said, line)
        elif progress != before:
            _tell(place, number, progress)
            before = progress
        if progress is None or moment - logged >= _LOGGED_S:
            logged = logged if progress is None else moment
            log.write(line)
            log.flush()
    return said


def _tell(place: JobPlace, number: int, progress: Progress) -> None:
    what = f"{progress.what}, {progress.note}" if progress.note else progress.what
    with contextlib.suppress(CytosegError):  # the table is locked: the next line will update it
        update_job(place, number, what=what, done=progress.done, total=progress.total, time_left=progress.left)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
