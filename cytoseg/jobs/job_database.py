"""Where the jobs of a run are recorded: ``jobs.sqlite`` in its folder, or the review database on a server."""

import socket
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    MetaData,
    NullPool,
    Table,
    Text,
    cast,
    create_engine,
    event,
    extract,
    func,
)
from sqlalchemy import text as sql
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.schema import CreateTable

from cytoseg.errors import CytosegError
from cytoseg.review.database import address_of, connected, is_file, take_turn, why
from cytoseg.review.missing_columns import add_missing_columns
from cytoseg.slides.regular_file import irregular_file_of_database
from cytoseg.writing import write_atomically

FILE, LOGS, NAME = "jobs.sqlite", "jobs", "name_in_database.txt"
WAIT_S, READ_WAIT_S = 30.0, 3.0
"""Seconds to wait for other writers: to write, and to read for a page."""
_LOCK = 20261130
"""PostgreSQL advisory lock for writing the table."""
_SHARED = "the job table"
_LONGEST = 400
"""Most characters of a run's name in a shared database."""


def _table(name: str, *more: str, numbers: Sequence[str] = ()) -> Table:
    """Declare a table of jobs with further columns of text and of numbers."""
    text, number = partial(Column, type_=Text, nullable=False), partial(Column, type_=Integer, nullable=False)
    empty, zero = partial(text, server_default=""), partial(number, server_default=sql("0"))
    columns: list[Column[Any]] = [Column("id", Integer, primary_key=True)]
    columns += [text(column) for column in ("command", "given", "author", "device", "created", "state")]
    columns += [zero("pid"), *(empty(column) for column in ("birth", "started", "ended", "what"))]
    columns += [zero("done"), zero("total"), *(empty(column) for column in ("time_left", "said"))]
    columns += [*(text(column) for column in more), *(zero(column) for column in numbers)]
    return Table(name, MetaData(), *columns, sqlite_autoincrement=True)


OF_FILE, OF_SERVER = _table("jobs"), _table("review_jobs", "machine", "run", numbers=["seen"])
"""The table in the run folder, and the shared one."""
CLOCK: ColumnElement[int] = cast(extract("epoch", func.now()), Integer)
"""Seconds since 1970 by the clock of the database, because those of several machines differ."""


@dataclass(frozen=True)
class JobPlace:
    """Where the jobs of a run are recorded.

    Attributes:
        run: The run folder, which always holds the logs.
        url: The recipe's ``review.log``. A database on a server holds the jobs too; None, or the address of an SQLite
            file, keeps ``jobs.sqlite`` in the run folder.
    """

    run: Path
    url: str | None = None

    @property
    def server(self) -> URL | None:
        """Address of the database on a server, or None.

        Raises:
            LabelError: If the URL is invalid.
        """
        address = None if self.url is None else address_of(self.url)
        return None if address is None or is_file(address) else address

    @property
    def table(self) -> Table:
        """The table in which the jobs are."""
        return OF_FILE if self.server is None else OF_SERVER

    @property
    def name(self) -> str:
        """How messages name it."""
        return FILE if self.server is None else _SHARED

    @property
    def machine(self) -> str:
        """Name of this machine in a shared table; empty in the run folder, which belongs to one."""
        return "" if self.server is None else socket.gethostname()


def name_in_database(run: Path) -> str | None:
    """Return the name of a run in a shared database; None if it has recorded no job there.

    Folders of several machines may have equal names, so the name has a random part; it is kept in the run folder.

    Raises:
        CytosegError: If its file is damaged or cannot be read.
    """
    path = run / LOGS / NAME
    try:
        found = path.read_bytes()[: 4 * _LONGEST].decode().strip() if path.is_file() else None
    except (OSError, ValueError) as error:
        raise CytosegError(f"{LOGS}/{NAME}: cannot be read ({error}). Restore it, or move it away.") from error
    if found is not None and not (found.isprintable() and 0 < len(found) <= _LONGEST):
        raise CytosegError(f"{LOGS}/{NAME}: is damaged. Restore it, or move it away: its earlier jobs are then hidden.")
    return found


def named_in_database(run: Path) -> str:
    """Return the name of a run in a shared database, chosen now if it has none.

    Raises:
        CytosegError: If its file is damaged, or cannot be read or written.
    """
    if (found := name_in_database(run)) is not None:
        return found
    name = f"{run.resolve().name[:200]} {uuid.uuid4()}"
    try:
        write_atomically(run / LOGS / NAME, f"{name}\n")
    except OSError as error:
        raise CytosegError(f"{LOGS}/{NAME}: cannot be written ({error}). Check the permissions.") from error
    return name


@contextmanager
def opened(place: JobPlace, *, writing: bool) -> Iterator[Connection]:
    """Yield the database in a transaction that no other writer interrupts, and convert errors to one-line errors.

    Args:
        place: Where the jobs are.
        writing: Whether to write; the table is then created if missing, and gets the columns that it lacks.

    Raises:
        CytosegError: If the table is damaged, or cannot be reached, read or written.
    """
    server = place.server
    with _file(place.run, writing=writing) if server is None else _server(server, writing=writing) as connection:
        yield connection


@contextmanager
def _server(server: URL, *, writing: bool) -> Iterator[Connection]:
    try:
        with connected(server, writing=writing, name=_SHARED) as connection:
            if writing:
                take_turn(connection, _LOCK)
                # IF NOT EXISTS would demand the right to create tables even if it exists.
                OF_SERVER.create(connection, checkfirst=True)
                add_missing_columns(connection, OF_SERVER)
            yield connection
    except (ValueError, TypeError) as error:
        raise CytosegError(f"{_SHARED} is damaged ({error}). Ask the owner of the database.") from error


@contextmanager
def _file(run: Path, *, writing: bool) -> Iterator[Connection]:
    path = (run / FILE).absolute()
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise CytosegError(
            f"{FILE}: cannot be read (a link, or not a file). Move it away; the results of the jobs are kept."
        )
    if strange := irregular_file_of_database(path):
        raise CytosegError(f"{FILE}: cannot be read ({strange} beside it is a link, or not a file). Remove that.")
    try:
        with _engine(path, writing=writing).begin() as connection:
            if writing:
                connection.execute(CreateTable(OF_FILE, if_not_exists=True))
                add_missing_columns(connection, OF_FILE)
            yield connection
    except OperationalError as error:
        doing = "written" if writing else "read"
        raise CytosegError(
            f"{FILE}: cannot be {doing} ({why(error)}). Check the permissions and the free disk space."
        ) from error
    except (DatabaseError, ValueError, TypeError) as error:
        raise CytosegError(
            f"{FILE}: is damaged ({why(error)}). Move it away; the results of the jobs are kept."
        ) from error


def _engine(path: Path, *, writing: bool) -> Engine:
    mode, wait_s = ("rwc", WAIT_S) if writing else ("ro", READ_WAIT_S)

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=wait_s, isolation_level=None)

    def begin(connection: Connection) -> None:
        # A read followed by a write could conflict with another writer, so take the write lock before reading.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    event.listen(engine, "begin", begin)
    return engine
