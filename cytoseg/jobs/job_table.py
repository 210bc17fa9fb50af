"""The jobs of a run, with their states."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, inspect, select, update

from cytoseg.duration_text import duration_text
from cytoseg.errors import CytosegError
from cytoseg.jobs.job_database import CLOCK, FILE, LOGS, JobPlace, name_in_database, named_in_database, opened
from cytoseg.jobs.processes import Process
from cytoseg.json_text import parse_json
from cytoseg.review.missing_columns import columns_of

WAITING, RUNNING, FINISHED, FAILED, CANCELLED, LOST = "waiting", "running", "finished", "failed", "cancelled", "lost"
ENDED = (FINISHED, FAILED, CANCELLED, LOST)
SILENT = "lost contact"
"""State of a job of another machine that gives no sign of life; it may still be running there."""
BEAT_S, SILENT_S = 30.0, 300
"""Seconds between two signs of life in a shared table, and without any until contact counts as lost."""
_RECORDED_S = 10**9
"""Longer silences are those of jobs that have never given a sign."""
_LOST = "Its process or the machine ended without a message: it was killed or switched off, or the memory was full."
_MOST = 10_000
"""Rows read, the latest; more would keep a page waiting."""


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
            process no longer exists and its end was not recorded; ``lost contact`` if its machine has given no sign of
            life for ``SILENT_S``.
        pid: Pid of its process; 0 if there is none yet.
        birth: Start time of that process, see ``processes.Process``.
        started: Start time.
        ended: End time.
        what: Current work.
        done: Units done.
        total: Total units; 0 if unknown.
        time_left: Estimated remaining time as text.
        said: Reason of a failure in one line.
        machine: Whose process it is, in a shared database; empty in the run folder.
        silent_s: Seconds since its last sign of life, in a shared database.
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
    machine: str = ""
    silent_s: int = 0

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
    place: JobPlace, command: str, given: tuple[str, ...], *, author: str, device: str, start: Callable[[int], Process]
) -> int:
    """Add a job to the table and start its process, both or neither, unless the same job has not ended.

    A second press of a button, and one by another person in the same instant, is refused: the table has one writer.

    Args:
        place: Where the jobs of the run are recorded.
        command: Its name.
        given: Its inputs.
        author: Who starts it.
        device: Its device, used by one job at a time.
        start: Starts its process from the number of the job.

    Returns:
        The number of the job.

    Raises:
        CytosegError: If the same job waits or runs on this machine, or the table is damaged or cannot be reached or
            written.
    """
    values = {"command": command, "given": json.dumps(given), "author": author, "device": device, "created": now()}
    with opened(place, writing=True) as connection:
        shared: dict[str, Any] = {}
        if place.server is not None:
            shared = {"machine": place.machine, "run": named_in_database(place.run)}
        _refuse_twice(connection, place, command, given, shared)
        shared |= {} if place.server is None else {"seen": CLOCK}
        put = insert(place.table).values(**values, **shared, state=WAITING)
        key = connection.execute(put).inserted_primary_key
        assert key is not None
        number = int(key[0])
        process = start(number)  # it first waits for this table, see ``begun_job``
        _change(connection, place, number, asdict(process))
    return number


def _refuse_twice(
    connection: Connection, place: JobPlace, command: str, given: tuple[str, ...], shared: Mapping[str, str]
) -> None:
    columns = place.table.c
    wanted = [columns.command == command, columns.state.not_in(ENDED)]
    wanted += [columns[name] == value for name, value in shared.items()]
    for job in _rows(connection, place, *wanted):
        if job.given == given and not job.is_over:
            raise CytosegError(
                f"jobs: not started again, because job {job.id}, started by {job.author}, does the same and has not "
                "ended. Wait for it, or cancel it first."
            )


def update_job(place: JobPlace, number: int, **values: str | int) -> None:
    """Change columns of a job.

    Raises:
        CytosegError: If the table is damaged or cannot be reached or written.
    """
    assert values.keys() <= {field.name for field in fields(Job)}
    with opened(place, writing=True) as connection:
        _change(connection, place, number, values)


def renew_job(place: JobPlace, number: int) -> None:
    """Record in a shared table that the machine of a job is alive; see ``SILENT_S``.

    Raises:
        CytosegError: If the table is damaged or cannot be reached or written.
    """
    with opened(place, writing=True) as connection:
        _change(connection, place, number, {"seen": CLOCK})


def jobs_of(place: JobPlace) -> list[Job]:
    """List the latest 10,000 jobs of a run, latest first.

    Raises:
        CytosegError: If the table is damaged or cannot be reached or read.
    """
    if place.server is None:
        return _read(place) if (place.run / FILE).exists() else []
    name = name_in_database(place.run)
    return [] if name is None else _read(place, place.table.c.run == name)


def jobs_before(place: JobPlace, job: Job) -> list[Job]:
    """List the earlier jobs on the device of a job which have not ended; a shared database knows those of all runs.

    Raises:
        CytosegError: If the table is damaged or cannot be reached or read.
    """
    columns = place.table.c
    wanted = [columns.id < job.id, columns.device == job.device, columns.state.not_in(ENDED)]
    shared = [] if place.server is None else [columns.machine == job.machine]
    return [found for found in _read(place, *wanted, *shared) if not found.is_over]


def job_of(place: JobPlace, number: int) -> Job:
    """Return a job by its number.

    Raises:
        CytosegError: If it does not exist, or the table is damaged or cannot be reached or read.
    """
    found = next((job for job in jobs_of(place) if job.id == number), None)
    if found is None:
        raise CytosegError(f"{place.name}: this run has no job {number}. Load the page again.")
    return found


def begun_job(place: JobPlace, number: int) -> Job:
    """Return the job of a process just started, once it has been written.

    Raises:
        CytosegError: If it does not exist, or the table is damaged or cannot be reached.
    """
    with opened(place, writing=True):
        pass
    return job_of(place, number)


def log_path(place: JobPlace, number: int) -> Path:
    """Return the log file of a job; a shared database numbers jobs on its own."""
    return place.run / LOGS / f"{'' if place.server is None else 'shared_'}{number:04}.log"


def now() -> str:
    """Return the time in UTC to the second, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _change(connection: Connection, place: JobPlace, number: int, values: Mapping[str, Any]) -> None:
    connection.execute(update(place.table).where(place.table.c.id == number).values(**values))


def _read(place: JobPlace, *wanted: ColumnElement[bool]) -> list[Job]:
    with opened(place, writing=False) as connection:
        if place.table.name not in inspect(connection).get_table_names():  # a failed start leaves an empty file
            return []
        return _rows(connection, place, *wanted)


def _rows(connection: Connection, place: JobPlace, *wanted: ColumnElement[bool]) -> list[Job]:
    table = place.table
    there = columns_of(connection, table)
    columns: list[ColumnElement[Any]] = [there[field.name] for field in fields(Job) if field.name in there]
    columns += [] if place.server is None else [CLOCK - there["seen"]]
    query = select(*columns).where(*wanted).order_by(table.c.id.desc()).limit(_MOST)
    return [_job(row, place.machine) for row in connection.execute(query).all()]


def _job(row: Sequence[Any], machine: str) -> Job:
    number, command, given, *rest = row
    found = parse_json(given, name="what a job was given")
    if not isinstance(found, list):
        raise ValueError("what a job was given is not a list")
    job = Job(number, command, tuple(map(str, found)), *rest)
    # SQLite keeps text in a column of numbers, and bytes in one of text.
    strange = [name for name, kind in _KINDS.items() if not isinstance(getattr(job, name), kind)]
    if strange:
        raise ValueError(f"{strange[0]} of job {number} is {type(getattr(job, strange[0])).__name__}")
    if job.is_over:
        return job
    if job.machine == machine:
        lost = replace(job, state=LOST, said=_LOST)
        return job if job.process.is_alive() else lost
    return job if job.silent_s <= SILENT_S else replace(job, state=SILENT, said=_silence(job))


def _silence(job: Job) -> str:
    long = f" for {duration_text(job.silent_s)}" if job.silent_s < _RECORDED_S else ""  # earlier versions gave none
    return (
        f"{job.machine} has given no sign of life{long}. It is switched off, asleep or cut off from the database; if "
        "it is still working, this changes by itself. If it is off, resume the job here."
    )
