"""Starting, cancelling and repeating jobs of a run."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cytoseg.durations import EVERY
from cytoseg.errors import CytosegError
from cytoseg.interrupts import PARENT
from cytoseg.jobs.job_table import add_job, job_of, log_path
from cytoseg.jobs.orders import command_of
from cytoseg.jobs.processes import Process, start_apart

RUNNER = "cytoseg.jobs.runner"
_SECRETS = "CYTOSEG_REVIEW_"
"""What begins so is for the app alone; see commands/review_links.py."""
_MOST_LOG = 200_000


def start_job(
    run: Path, command: str, *, keys: Sequence[str], given: Sequence[str], author: str, device: str, base: Path
) -> int:
    """Start a command on the run's own recipe, in a process that outlives this one.

    Args:
        run: The run folder.
        command: Of ``ORDERS``.
        keys: What it works on, as people know it: keys of slides, or a folder of the run.
        given: The same as the command takes it, see ``command_of``.
        author: Who asks for it.
        device: Name of what one job at a time may use, such as ``first`` or ``cuda-1``.
        base: What relative paths in the recipe start from.

    Returns:
        The number of the job.

    Raises:
        CytosegError: If the command may not be started, nobody is named, or the table cannot be written.
    """
    run = run.resolve()
    if not author:
        raise CytosegError("jobs: nobody is named. Type your name first.")
    words = command_of(command, run, given)

    def start(number: int) -> Process:
        runner = [sys.executable, "-m", RUNNER, str(run), str(number), *words]
        return start_apart(runner, folder=base, surroundings=_surroundings(os.environ))

    try:
        return add_job(run, command, tuple(keys), author=author, device=device, start=start)
    except OSError as error:
        raise CytosegError(f"jobs: {command} cannot be started ({error.strerror or error}).") from error


def cancel_job(run: Path, number: int) -> bool:
    """Do to a job what Ctrl-C does to a command; returns whether it was still there.

    Raises:
        CytosegError: If there is none of that number, or the table is damaged.
    """
    job = job_of(run, number)
    return not job.is_over and _is_runner(job.pid, run.resolve(), number) and job.process.interrupt()


def log_tail(run: Path, number: int, *, characters: int = 20_000) -> str:
    """Return the end of what a job has printed; nothing if it has printed nothing."""
    try:
        with log_path(run, number).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - min(4 * characters, _MOST_LOG)))
            return file.read(_MOST_LOG).decode("utf-8", "replace")[-characters:]
    except OSError:
        return ""


def _surroundings(found: Mapping[str, str]) -> dict[str, str]:
    """Leave out the secrets of the app, and what would end the job with it."""
    kept = {name: text for name, text in found.items() if name != PARENT and not name.startswith(_SECRETS)}
    return kept | {EVERY: "2", "PYTHONUNBUFFERED": "1"}


def _is_runner(pid: int, run: Path, number: int) -> bool:
    """Return whether a process is the runner of a job: a foreign table could name any process of this account."""
    place = Path(f"/proc/{pid}/cmdline")
    try:
        words = place.read_bytes().decode("utf-8", "surrogateescape").split("\0")
    except OSError:
        return not Path("/proc/self").exists()  # nobody can tell there
    return RUNNER in words and words[words.index(RUNNER) + 1 :][:2] == [str(run), str(number)]
