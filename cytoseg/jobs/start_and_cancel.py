"""Starting and cancelling jobs of a run, and reading their logs."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cytoseg.duration_text import PROGRESS_VARIABLE
from cytoseg.errors import CytosegError
from cytoseg.interrupts import PARENT_VARIABLE
from cytoseg.jobs.job_commands import command_of
from cytoseg.jobs.job_database import JobPlace
from cytoseg.jobs.job_table import add_job, job_of, log_path
from cytoseg.jobs.processes import Process, start_apart
from cytoseg.process_table import command_line

RUNNER = "cytoseg.jobs.runner"
_SECRETS = "CYTOSEG_REVIEW_"
"""Environment variables with this prefix are for the app only; see workflows/review_links.py."""
_MAX_LOG = 200_000


def start_job(
    place: JobPlace, command: str, *, keys: Sequence[str], given: Sequence[str], author: str, device: str, base: Path
) -> int:
    """Start a command on the run's own recipe in a detached process.

    Args:
        place: Where the jobs of the run are recorded.
        command: Key of ``ORDERS``.
        keys: Its inputs as shown to users: slide keys, or a folder of the run.
        given: The same as arguments, see ``command_of``.
        author: Who starts it.
        device: Name of the device, used by one job at a time, such as ``first`` or ``cuda-1``.
        base: Base folder of relative paths in the recipe.

    Returns:
        The number of the job.

    Raises:
        CytosegError: If the command may not be started, the author is empty, or the table cannot be written.
    """
    run = place.run.resolve()
    if not author:
        raise CytosegError("jobs: the name is empty. Type your name first.")
    words = command_of(command, run, given)

    def start(number: int) -> Process:
        runner = [sys.executable, "-m", RUNNER, str(run), str(number), place.url or "", *words]
        try:
            return start_apart(runner, folder=base, surroundings=_surroundings(os.environ))
        except OSError as error:
            raise CytosegError(f"jobs: {command} cannot be started ({error.strerror or error}).") from error

    return add_job(place, command, tuple(keys), author=author, device=device, start=start)


def cancel_job(place: JobPlace, number: int) -> bool:
    """Cancel a job, like Ctrl-C; return whether it was still running.

    Raises:
        CytosegError: If it does not exist or runs on another machine, or the table is damaged or cannot be read.
    """
    job = job_of(place, number)
    if not job.is_over and job.machine != place.machine:
        raise CytosegError(f"job {number}: runs on {job.machine}. Cancel it in the app there.")
    return not job.is_over and _is_runner(job.pid, place.run.resolve(), number) and job.process.interrupt()


def log_tail(place: JobPlace, number: int, *, characters: int = 20_000) -> str:
    """Return the end of a job's log; empty if there is no output."""
    try:
        with log_path(place, number).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - min(4 * characters, _MAX_LOG)))
            return file.read(_MAX_LOG).decode("utf-8", "replace")[-characters:]
    except OSError:
        return ""


def _surroundings(found: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the app's secrets and without the variable that ties the job to it."""
    kept = {name: text for name, text in found.items() if name != PARENT_VARIABLE and not name.startswith(_SECRETS)}
    return kept | {PROGRESS_VARIABLE: "2", "PYTHONUNBUFFERED": "1"}


def _is_runner(pid: int, run: Path, number: int) -> bool:
    """Return whether a process is the runner of a job: a foreign table could name any process of this user."""
    words = command_line(pid)
    return RUNNER in words and words[words.index(RUNNER) + 1 :][:2] == [str(run), str(number)]
