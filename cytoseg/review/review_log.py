"""The reviewers' log: who accepted, rejected, corrected or commented on which crop. Entries are only ever added.

It lies in an SQLite file in the run folder, or in a database that several machines share. The database itself refuses
to change or remove an entry; who may delete the file can still delete all of it.
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
"""How long to wait for others who are writing."""

Action = Literal["accepted", "rejected", "corrected", "commented"]

_LOCK = 20260301
"""Number under which PostgreSQL lets one connection at a time make the table."""

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
    """What a person says of a crop.

    Attributes:
        author: Name of the annotator.
        run: Name of the run, and if others may have one of that name what tells them apart.
        crop: Id of the crop, or the region on the slide.
        slide: Name of the slide.
        action: What was done.
        comment: In the person's words; may be empty.
        file: Of the correction, relative to the run folder; empty where there is none.
        sha256: Of that file, 64 hexadecimal digits; empty likewise.
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
    """A judgement as it stands in the log: with its number, and its time in UTC as ISO 8601 writes it."""

    id: int
    time: str


def log_of(run: Path, url: str | None) -> URL:
    """Return the address of a run's log.

    Args:
        run: The run folder.
        url: SQLAlchemy's URL of a database that several runs and machines share; None takes an SQLite file in the run.

    Returns:
        The address, for `add_entry` and `read_entries`.

    Raises:
        LabelError: If the URL is none.
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
    """Add an entry; several processes and machines may do so at once.

    Args:
        log: As `log_of` gives it; the table is made where there is none.
        judgement: What to add, with the time of now.

    Raises:
        LabelError: If the database is damaged, or cannot be reached or written.
    """
    with connected(log, writing=True) as connection:
        make_table(connection, _TABLE)
        connection.execute(insert(_TABLE).values(**asdict(judgement), time=now()))


def read_entries(log: URL, **wanted: str) -> list[Entry]:
    """Read entries.

    Args:
        log: As `log_of` gives it.
        wanted: Columns and what must stand in them, such as ``run="lbc"``.

    Returns:
        The entries, the oldest first; none where nothing has been logged yet.

    Raises:
        LabelError: If the database is damaged or cannot be reached.
    """
    return [_entry(row) for row in read_table(log, _TABLE, wanted)]


def log_csv(entries: Sequence[Entry]) -> str:
    """Write entries as a table for a spreadsheet.

    Args:
        entries: In the order of the lines.

    Returns:
        CSV with a head, times in UTC. A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    head = [column.name for column in _TABLE.columns]
    lines = [[str(asdict(entry)[name]) for name in head] for entry in entries]
    return csv_text([head, *lines])


def _entry(row: Mapping[Any, Any]) -> Entry:
    return Entry(**{str(name): value for name, value in row.items()})


@contextmanager
def connected(log: URL, *, writing: bool) -> Iterator[Connection]:
    """Return a connection in a transaction, and say in one sentence what is wrong with the database.

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
    except IntegrityError:  # our own mistake
        raise
    except DatabaseError as error:
        raise LabelError(f"{name} is damaged ({_why(error)}). Restore a copy, or move it away.") from error


def _engine(log: URL, *, writing: bool) -> Engine:
    if not _is_file(log):
        return create_engine(log, poolclass=NullPool)
    path = Path(str(log.database))
    if writing:
        path.parent.mkdir(parents=True, exist_ok=True)
    # A reader must not need to write, not even where the folder is read-only.
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
    # Who first reads and then writes may find that another has written in between; so wait before reading.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def make_table(connection: Connection, table: Table) -> None:
    """Make a table whose rows are only ever added, where there is none."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    if not inspect(connection).has_table(table.name):
        table.create(connection)
        for statement in _guards(table.name).get(connection.dialect.name, ()):
            connection.execute(text(statement))


def read_table(log: URL, table: Table, wanted: Mapping[str, str]) -> list[Mapping[Any, Any]]:
    """Read the rows of a table in which some columns hold what is wanted, the oldest first; none where it is not there.

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
    except OSError as error:  # its folder may not be entered
        raise LabelError(f"the review log {path.name} cannot be read ({_why(error)}). Check the rights.") from error


def _guards(table: str) -> dict[str, tuple[str, ...]]:
    """Return by database what makes it refuse to change entries."""
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
