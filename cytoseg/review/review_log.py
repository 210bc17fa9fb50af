"""The append-only log of accepted, rejected, corrected or commented crops.

It is an SQLite file in the run folder, or a shared database. The database itself refuses to change or remove entries;
deleting the whole file is still possible.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import (
    URL,
    CheckConstraint,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    NullPool,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
)

from cytoseg.csv_table import csv_text
from cytoseg.errors import LabelError
from cytoseg.labels.corrections import now

WAIT_S = 30.0
"""Seconds to wait for other writers."""

Action = Literal["accepted", "rejected", "corrected", "commented"]

_LOCK = 20260301
"""PostgreSQL advisory lock for creating the table."""

_TABLE = Table(
    "review_log",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("time", String(32), nullable=False),
    Column("author", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("crop", Text, nullable=False),
    Column("slide", Text, nullable=False),
    Column("action", String(16), nullable=False),
    Column("comment", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    CheckConstraint("action IN ('accepted', 'rejected', 'corrected', 'commented')", name="known_action"),
    sqlite_autoincrement=True,
)

_REFUSAL = "log entries cannot be changed or deleted"


@dataclass(frozen=True)
class Judgement:
    """A reviewer's judgement of a crop.

    Attributes:
        author: Name of the annotator.
        run: Name of the run, with a distinguishing suffix in a shared database.
        crop: Id of the crop, or the region on the slide.
        slide: Name of the slide.
        action: The action.
        comment: Free text; may be empty.
        file: File of the correction, relative to the run folder; empty if there is none.
        sha256: SHA-256 of that file, 64 hexadecimal digits; empty if there is none.
    """

    author: str
    run: str
    crop: str
    slide: str
    action: Action
    comment: str = ""
    file: str = ""
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry(Judgement):
    """A judgement in the log with its number and time (UTC, ISO 8601)."""

    id: int
    time: str


def log_of(run: Path, url: str | None) -> URL:
    """Return the address of a run's log.

    Args:
        run: The run folder.
        url: SQLAlchemy URL of a shared database; None takes an SQLite file in the run.

    Returns:
        The address, for `add_entry` and `read_entries`.

    Raises:
        LabelError: If the URL is invalid.
    """
    if url is None:
        return URL.create("sqlite", database=str(run.resolve() / "review" / "log.sqlite"))
    try:
        found = make_url(url)
    except ArgumentError as error:
        raise LabelError(f"review.log: {_why(error)}. Write it as dialect+driver://user@host/database.") from error
    if found.get_backend_name() == "sqlite" and not found.database:
        raise LabelError("review.log: the address names no file, so the log would be lost. Add a path.")
    return found


def add_entry(log: URL, judgement: Judgement) -> None:
    """Add an entry; safe for concurrent processes and machines.

    Args:
        log: From `log_of`; the table is created if missing.
        judgement: The judgement, logged with the current time.

    Raises:
        LabelError: If the database is damaged, or cannot be reached or written.
    """
    with connected(log, writing=True) as connection:
        make_table(connection, _TABLE)
        connection.execute(insert(_TABLE).values(**asdict(judgement), time=now()))


def read_entries(log: URL, **wanted: str) -> list[Entry]:
    """Read entries.

    Args:
        log: From `log_of`.
        wanted: Required column values, such as ``run="lbc"``.

    Returns:
        The entries, oldest first.

    Raises:
        LabelError: If the database is damaged or cannot be reached.
    """
    return [_entry(row) for row in read_table(log, _TABLE, wanted)]


def log_csv(entries: Sequence[Entry]) -> str:
    """Write entries as CSV for a spreadsheet.

    Args:
        entries: Entries in row order.

    Returns:
        CSV with a header, times in UTC. An apostrophe precedes text that a spreadsheet would read as a formula.
    """
    head = [column.name for column in _TABLE.columns]
    lines = [[str(asdict(entry)[name]) for name in head] for entry in entries]
    return csv_text([head, *lines])


def _entry(row: Mapping[Any, Any]) -> Entry:
    return Entry(**{str(name): value for name, value in row.items()})


@contextmanager
def connected(log: URL, *, writing: bool) -> Iterator[Connection]:
    """Yield a connection in a transaction, and convert database errors to one-line errors.

    Raises:
        LabelError: If the database is damaged, or cannot be reached, read or written.
    """
    name = "the review log" if not _is_file(log) else f"the review log {Path(str(log.database)).name}"
    try:
        engine = _engine(log, writing=writing)
        with engine.begin() as connection:
            yield connection
    except (NoSuchModuleError, ImportError) as error:
        raise LabelError(
            f"review.log: {_why(error)}. Fix the address, or install the driver: for PostgreSQL "
            "`pip install 'cytoseg[postgres]'`."
        ) from error
    except (OperationalError, InterfaceError, ProgrammingError, OSError) as error:
        raise LabelError(
            f"{name} cannot be {'written' if writing else 'read'} ({_why(error)}). Check the permissions, the free "
            "disk space and, for a server, that it is running."
        ) from error
    except IntegrityError:  # a bug
        raise
    except DatabaseError as error:
        raise LabelError(f"{name} is damaged ({_why(error)}). Restore a copy, or move it away.") from error


def _engine(log: URL, *, writing: bool) -> Engine:
    if not _is_file(log):
        return create_engine(log, poolclass=NullPool)
    path = Path(str(log.database))
    if writing:
        path.parent.mkdir(parents=True, exist_ok=True)
    # Reading must not require write access, even in a read-only folder.
    query = {"mode": "rwc" if writing else "ro", "uri": "true"}
    place = URL.create("sqlite", database=path.resolve().as_uri(), query=query)
    engine = create_engine(place, poolclass=NullPool, connect_args={"timeout": WAIT_S})
    if writing:
        event.listen(engine, "connect", _leave_transactions_to_us)
        event.listen(engine, "begin", _begin_writing)
    return engine


def _leave_transactions_to_us(connection: Any, _record: object) -> None:
    connection.isolation_level = None


def _begin_writing(connection: Connection) -> None:
    # A read followed by a write could conflict with another writer, so take the write lock before reading.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def make_table(connection: Connection, table: Table) -> None:
    """Create an append-only table if it does not exist."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    if not inspect(connection).has_table(table.name):
        table.create(connection)
        for statement in _guards(table.name).get(connection.dialect.name, ()):
            connection.execute(text(statement))


def read_table(log: URL, table: Table, wanted: Mapping[str, str]) -> list[Mapping[Any, Any]]:
    """Read the rows of a table with the wanted column values, oldest first; empty if there is no table.

    Raises:
        LabelError: If the database is damaged or cannot be reached.
    """
    if _is_file(log) and not _exists(Path(str(log.database))):
        return []
    with connected(log, writing=False) as connection:
        if not inspect(connection).has_table(table.name):
            return []
        conditions = [table.c[column] == value for column, value in wanted.items()]
        return list(connection.execute(select(table).where(*conditions).order_by(table.c.id)).mappings())


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # its folder may be inaccessible
        raise LabelError(f"the review log {path.name} cannot be read ({_why(error)}). Check the rights.") from error


def _guards(table: str) -> dict[str, tuple[str, ...]]:
    """Return the triggers, by database, that refuse changes of entries."""
    changes = (
        f"CREATE TRIGGER {table}_{change} BEFORE {change} ON {table} BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        for change in ("update", "delete")
    )
    refuse = (
        f"CREATE OR REPLACE FUNCTION {table}_refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$ "
        "LANGUAGE plpgsql",
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} FOR EACH STATEMENT "
        f"EXECUTE FUNCTION {table}_refuse()",
    )
    return {"sqlite": tuple(changes), "postgresql": refuse}


def _is_file(log: URL) -> bool:
    return log.get_backend_name() == "sqlite"


def _why(error: Exception) -> str:
    """Return the database's own reason on one line."""
    reason = getattr(error, "strerror", None) or getattr(error, "orig", None) or error
    return " ".join(str(reason).split()).rstrip(".")
