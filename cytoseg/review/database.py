"""Connections to a review database, with its errors as one-line errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
)

from cytoseg.errors import LabelError
from cytoseg.slides.regular_file import irregular_file_of_database

WAIT_S, READ_WAIT_S = 30.0, 3.0
"""Seconds to wait for other writers: to write, and to read for a page."""
CONNECT_S = 5
"""Seconds to wait for a server to answer; every page connects to it."""
_OF_LIBPQ = ("psycopg", "psycopg2")
_FILE_ADVICE = "Check the permissions and the free disk space."
_SERVER_ADVICE = "Check the address, the password in ~/.pgpass or PGPASSWORD, and that the server is running."
RESTORE = "Restore a copy, or move it away."


def address_of(url: str) -> URL:
    """Parse the ``review.log`` of a recipe.

    Raises:
        LabelError: If the URL is invalid, or would keep nothing.
    """
    try:
        found = make_url(url)
    except ArgumentError as error:
        raise LabelError(f"review.log: {why(error)}. Write it as dialect+driver://user@host/database.") from error
    if found.get_backend_name() == "sqlite" and not found.database:
        raise LabelError("review.log: the address names no file, so the log would be lost. Add a path.")
    return found


def check_log(url: str) -> None:
    """Connect to a recipe's log once, to find a wrong address before anything depends on it.

    Args:
        url: The ``review.log`` of a recipe. The file of an SQLite address may be missing: the first entry makes it.

    Raises:
        LabelError: If the URL is invalid, its driver is missing, or the database is damaged or cannot be reached.
    """
    log = address_of(url)
    if is_file(log) and not is_there(Path(str(log.database))):
        return
    with connected(log, writing=False) as connection:
        inspect(connection).get_table_names()


@contextmanager
def connected(log: URL, *, writing: bool, name: str = "") -> Iterator[Connection]:
    """Yield a connection in a transaction, and convert database errors to one-line errors.

    Args:
        log: Address of the database.
        writing: Whether to write.
        name: What is read or written, for messages; the review log if empty.

    Raises:
        LabelError: If the database is damaged, or cannot be reached, read or written.
    """
    name = name or name_of(log)
    try:
        engine = _engine(log, writing=writing)
        with engine.begin() as connection:
            yield connection
    except (NoSuchModuleError, ImportError) as error:
        raise LabelError(
            f"review.log: {why(error)}. Fix the address, or install the driver: for PostgreSQL "
            "`pip install 'cytoseg[postgres]'`."
        ) from error
    except (OperationalError, InterfaceError, ProgrammingError, OSError) as error:
        advice = _FILE_ADVICE if is_file(log) else _SERVER_ADVICE
        raise LabelError(f"{name} cannot be {'written' if writing else 'read'} ({why(error)}). {advice}") from error
    except IntegrityError:  # a bug
        raise
    except (DatabaseError, UnicodeDecodeError) as error:  # the latter of a damaged schema
        raise LabelError(f"{name} is damaged ({why(error)}). {RESTORE}") from error


def take_turn(connection: Connection, key: int) -> None:
    """Wait on PostgreSQL for other transactions with the same key; an SQLite file has one writer anyway.

    Args:
        connection: In a transaction, whose end lets the next one go on.
        key: Number of an advisory lock.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({key})"))


def name_of(log: URL) -> str:
    """Return how messages name a log."""
    return "the review log" if not is_file(log) else f"the review log {Path(str(log.database)).name}"


def _engine(log: URL, *, writing: bool) -> Engine:
    if not is_file(log):
        # A host behind a firewall never answers, and libpq would wait without end.
        limited = log.get_driver_name() in _OF_LIBPQ and "connect_timeout" not in log.query
        return create_engine(log, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_S} if limited else {})
    path = Path(str(log.database))
    if is_there(path) and (strange := irregular_file_of_database(path)):
        raise LabelError(f"{name_of(log)} cannot be read ({strange} beside it is a link, or not a file). Remove that.")
    if writing:
        path.parent.mkdir(parents=True, exist_ok=True)
    # Reading must not require write access, even in a read-only folder.
    query = {"mode": "rwc" if writing else "ro", "uri": "true"}
    place = URL.create("sqlite", database=path.resolve().as_uri(), query=query)
    engine = create_engine(place, poolclass=NullPool, connect_args={"timeout": WAIT_S if writing else READ_WAIT_S})
    if writing:
        event.listen(engine, "connect", _leave_transactions_to_us)
        event.listen(engine, "begin", _begin_writing)
    return engine


def _leave_transactions_to_us(connection: Any, _record: object) -> None:
    connection.isolation_level = None


def _begin_writing(connection: Connection) -> None:
    # A read followed by a write could conflict with another writer, so take the write lock before reading.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def is_there(path: Path) -> bool:
    """Return whether the file of a log exists.

    Raises:
        LabelError: If it is not a file, or access is denied.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe never answers
            raise LabelError(f"the review log {path.name} cannot be read (not a file). Check its path.")
        return path.exists()
    except OSError as error:  # its folder may be inaccessible
        raise LabelError(f"the review log {path.name} cannot be read ({why(error)}). Check its permissions.") from error


def is_file(log: URL) -> bool:
    """Return whether a log is an SQLite file, not a server."""
    return log.get_backend_name() == "sqlite"


def why(error: Exception) -> str:
    """Return the database's own reason on one line."""
    reason = getattr(error, "strerror", None) or getattr(error, "orig", None) or error
    return " ".join(str(reason).split()).rstrip(".")
