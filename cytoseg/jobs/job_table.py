"""The jobs of a run, in ``jobs.sqlite`` of its folder: who started what, how far it is, how it ended."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from cytoseg.errors import CytosegError
from cytoseg.jobs.processes import Process

FILE, LOGS = "jobs.sqlite", "jobs"
WAITING, RUNNING, FINISHED, FAILED, CANCELLED, LOST = "waiting", "running", "finished", "failed", "cancelled", "lost"
ENDED = (FINISHED, FAILED, CANCELLED, LOST)
WAIT_S = 30.0
"""How long to wait for others who are writing."""

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
        command: As ``orders.ORDERS`` names it.
        given: What it works on, such as the keys of slides.
        author: Who started it.
        device: Of which one job at a time works.
        created: When it was asked for, in UTC as ISO 8601 writes it; so are ``started`` and ``ended``, or empty.
        state: ``waiting``, ``running``, or how it ended: ``finished``, ``failed``, ``cancelled``; ``lost`` where its
            process is no more and nobody recorded its end.
        pid: Number of its process; 0 where there is none yet.
        birth: When that process was born, see ``processes.Process``.
        started: When its turn came.
        ended: When it ended.
        what: What is being done.
        done: So much of it.
        total: Of so much; 0 if unknown.
        time_left: How long the rest takes about, in words.
        said: Why it failed, in one line.
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
        """Whether nothing more comes of it."""
        return self.state in ENDED


def add_job(
    run: Path, command: str, given: tuple[str, ...], *, author: str, device: str, start: Callable[[int], Process]
) -> int:
    """Write a job into the table and start its process: both or neither.

    Args:
        run: The run folder.
        command: Its name.
        given: What it works on.
        author: Who asks for it.
        device: Of which one job at a time works.
        start: Starts its process, given the number of the job.

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
        process = start(number)  # it waits for this table before it does anything
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
    """List the jobs of a run, the latest first.

    Raises:
        CytosegError: If the table is damaged or cannot be read.
    """
    if not (run / FILE).exists():
        return []
    columns = ", ".join(field.name for field in fields(Job))
    with _opened(run, writing=False) as table:
        if not table.execute("SELECT 1 FROM sqlite_master WHERE name = 'jobs'").fetchone():
            return []  # what could not be started leaves an empty file
        rows = table.execute(f"SELECT {columns} FROM jobs ORDER BY id DESC").fetchall()
        return [_job(*row) for row in rows]


def job_of(run: Path, number: int) -> Job:
    """Return a job by its number.

    Raises:
        CytosegError: If there is none of that number, or the table is damaged or cannot be read.
    """
    found = next((job for job in jobs_of(run) if job.id == number), None)
    if found is None:
        raise CytosegError(f"{FILE}: this run has no job {number}. Load the page again.")
    return found


def log_path(run: Path, number: int) -> Path:
    """Return the file that holds what a job has printed."""
    return run / LOGS / f"{number:04}.log"


def now() -> str:
    """Return the time in UTC to the second, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _job(number: int, command: str, given: str, *rest: object) -> Job:
    found = json.loads(given)
    if not isinstance(found, list):
        raise ValueError("what a job was given is no list")
    job = Job(int(number), str(command), tuple(map(str, found)), *rest)  # type: ignore[arg-type] # in order of columns
    if not job.is_over and not job.process.is_alive():
        return Job(**{**job.__dict__, "state": LOST, "said": "Its process ended without a word, or the machine did."})
    return job


@contextmanager
def _opened(run: Path, *, writing: bool) -> Iterator[sqlite3.Connection]:
    """Return the table in a transaction, and say in one sentence what is wrong with it."""
    path = (run / FILE).resolve()
    mode = "rwc" if writing else "ro"
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=WAIT_S, isolation_level=None)
        try:
            # Who first reads and then writes may find that another has written in between; so wait before reading.
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
            f"{FILE}: cannot be {doing} ({error}). Check the rights and the room on the disk."
        ) from error
    except (sqlite3.DatabaseError, ValueError, TypeError) as error:
        raise CytosegError(f"{FILE}: is damaged ({error}). Move it away; what the jobs have made stays.") from error
