"""The job table of a run, ``jobs.sqlite``."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from cytoseg.errors import CytosegError
from cytoseg.jobs.processes import Process
from cytoseg.json_text import parse_json
from cytoseg.slides.regular_file import strange_beside

FILE, LOGS = "jobs.sqlite", "jobs"
WAITING, RUNNING, FINISHED, FAILED, CANCELLED, LOST = "waiting", "running", "finished", "failed", "cancelled", "lost"
ENDED = (FINISHED, FAILED, CANCELLED, LOST)
WAIT_S, READ_WAIT_S = 30.0, 3.0
"""Seconds to wait for other writers: to write, and to read for a page."""
_MOST = 10_000
"""Rows read, the latest; more would keep a page waiting."""

_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT, command TEXT NOT NULL, given TEXT NOT NULL, author TEXT NOT NULL,
  device TEXT NOT NULL, created TEXT NOT NULL, state TEXT NOT NULL, pid INTEGER NOT NULL DEFAULT 0,
  birth TEXT NOT NULL DEFAULT '', started TEXT NOT NULL DEFAULT '', ended TEXT NOT NULL DEFAULT '',
  what TEXT NOT NULL DEFAULT '', done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0,
  time_left TEXT NOT NULL DEFAULT '', said TEXT NOT NULL DEFAULT '')
"""


@dataclass(frozen=True)
class Job:
    """A command that was started from the app.

    Attributes:
        id: Its number in the run.
        command: Name in ``orders.ORDERS``.
        given: Its inputs, such as slide keys.
        author: Who started it.
        device: Its device, used by one job at a time.
        created: Submission time, UTC in ISO 8601; so are ``started`` and ``ended``, or empty.
        state: ``waiting``, ``running``, or how it ended: ``finished``, ``failed``, ``cancelled``; ``lost`` if its
            process no longer exists and its end was not recorded.
        pid: Pid of its process; 0 if there is none yet.
        birth: Start time of that process, see ``processes.Process``.
        started: Start time.
        ended: End time.
        what: Current work.
        done: Units done.
        total: Total units; 0 if unknown.
        time_left: Estimated remaining time as text.
        said: Reason of a failure in one line.
    """

    id: int
    command: str
    given: tuple[str, ...]
    author: str
    device: str
    created: str
    state: str
    pid: int
    birth: str
    started: str
    ended: str
    what: str
    done: int
    total: int
    time_left: str
    said: str

    @property
    def process(self) -> Process:
        """Its process."""
        return Process(self.pid, self.birth)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state in ENDED


_KINDS = {field.name: int if field.type is int else str for field in fields(Job) if field.name != "given"}


def add_job(
    run: Path, command: str, given: tuple[str, ...], *, author: str, device: str, start: Callable[[int], Process]
) -> int:
    """Add a job to the table and start its process, both or neither.

    Args:
        run: The run folder.
        command: Its name.
        given: Its inputs.
        author: Who starts it.
        device: Its device, used by one job at a time.
        start: Starts its process from the number of the job.

    Returns:
        The number of the job.

    Raises:
        CytosegError: If the table is damaged or cannot be written.
        OSError: If the process cannot be started.
    """
    with _opened(run, writing=True) as table:
        values = (command, json.dumps(given), author, device, now(), WAITING)
        put = "INSERT INTO jobs (command, given, author, device, created, state) VALUES (?, ?, ?, ?, ?, ?)"
        number = table.execute(put, values).lastrowid
        assert number is not None
        process = start(number)  # it first waits for this table
        table.execute("UPDATE jobs SET pid = ?, birth = ? WHERE id = ?", (process.pid, process.birth, number))
    return number


def update_job(run: Path, number: int, **values: str | int) -> None:
    """Change columns of a job.

    Raises:
        CytosegError: If the table is damaged or cannot be written.
    """
    assert values.keys() <= {field.name for field in fields(Job)}
    columns = ", ".join(f"{name} = ?" for name in values)
    with _opened(run, writing=True) as table:
        table.execute(f"UPDATE jobs SET {columns} WHERE id = ?", (*values.values(), number))


def jobs_of(run: Path) -> list[Job]:
    """List the latest 10,000 jobs of a run, latest first.

    Raises:
        CytosegError: If the table is damaged or cannot be read.
    """
    if not (run / FILE).exists():
        return []
    columns = ", ".join(field.name for field in fields(Job))
    with _opened(run, writing=False) as table:
        if not table.execute("SELECT 1 FROM sqlite_master WHERE name = 'jobs' AND type = 'table'").fetchone():
            return []  # a failed start leaves an empty file
        rows = table.execute(f"SELECT {columns} FROM jobs ORDER BY id DESC LIMIT {_MOST}").fetchall()
        return [_job(*row) for row in rows]


def job_of(run: Path, number: int) -> Job:
    """Return a job by its number.

    Raises:
        CytosegError: If it does not exist, or the table is damaged or cannot be read.
    """
    found = next((job for job in jobs_of(run) if job.id == number), None)
    if found is None:
        raise CytosegError(f"{FILE}: this run has no job {number}. Load the page again.")
    return found


def log_path(run: Path, number: int) -> Path:
    """Return the log file of a job."""
    return run / LOGS / f"{number:04}.log"


def now() -> str:
    """Return the time in UTC to the second, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _job(number: int, command: str, given: str, *rest: object) -> Job:
    found = parse_json(given, name="what a job was given")
    if not isinstance(found, list):
        raise ValueError("what a job was given is not a list")
    job = Job(number, command, tuple(map(str, found)), *rest)  # type: ignore[arg-type] # in order of columns
    # SQLite keeps text in a column of numbers, and bytes in one of text.
    strange = [name for name, kind in _KINDS.items() if not isinstance(getattr(job, name), kind)]
    if strange:
        raise ValueError(f"{strange[0]} of job {number} is {type(getattr(job, strange[0])).__name__}")
    if not job.is_over and not job.process.is_alive():
        return Job(**{**job.__dict__, "state": LOST, "said": "Its process or the machine ended without a message."})
    return job


@contextmanager
def _opened(run: Path, *, writing: bool) -> Iterator[sqlite3.Connection]:
    """Yield the table in a transaction, and convert errors to one-line errors."""
    path = (run / FILE).absolute()
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise CytosegError(
            f"{FILE}: cannot be read (a link, or not a file). Move it away; the results of the jobs are kept."
        )
    if strange := strange_beside(path):
        raise CytosegError(f"{FILE}: cannot be read ({strange} beside it is a link, or not a file). Remove that.")
    mode, wait_s = ("rwc", WAIT_S) if writing else ("ro", READ_WAIT_S)
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=wait_s, isolation_level=None)
        try:
            # A read followed by a write could conflict with another writer, so take the write lock before reading.
            connection.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
            if writing:
                connection.execute(_TABLE)
            yield connection
            connection.execute("COMMIT")
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        doing = "written" if writing else "read"
        raise CytosegError(
            f"{FILE}: cannot be {doing} ({error}). Check the permissions and the free disk space."
        ) from error
    except (sqlite3.DatabaseError, ValueError, TypeError) as error:
        raise CytosegError(f"{FILE}: is damaged ({error}). Move it away; the results of the jobs are kept.") from error
