"""Tables of a review database that only ever grow.

The database is an SQLite file in the run folder, or a shared one. It refuses to change or remove entries itself;
deleting the whole file is still possible.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    CheckConstraint,
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.types import TypeEngine

from cytoseg.errors import LabelError
from cytoseg.labels.corrections import now
from cytoseg.quoting import short_repr
from cytoseg.review.database import RESTORE, address_of, connected, is_file, is_there, name_of, take_turn
from cytoseg.review.missing_columns import add_missing_columns, columns_of

_LOCK = 20260301
"""PostgreSQL advisory lock for creating the table."""
_REFUSAL = "log entries cannot be changed or deleted"

Entry = TypeVar("Entry")


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
    return address_of(url)


def growing_table(name: str, columns: Mapping[str, TypeEngine[Any]], check: CheckConstraint) -> Table:
    """Declare a table of entries with a number, a time (UTC, ISO 8601), an author and a run; no column may be null.

    Args:
        name: Name of the table.
        columns: Types of the further columns of text, by name. A later version may add some: rows of an earlier one
            then hold an empty text.
        check: Condition that every row must meet.
    """
    every = {"time": String(32), "author": Text(), "run": Text()}
    return Table(
        name,
        MetaData(),
        Column("id", Integer, primary_key=True),
        *(Column(column, kind, nullable=False) for column, kind in every.items()),
        *(Column(column, kind, nullable=False, server_default="") for column, kind in columns.items()),
        check,
        sqlite_autoincrement=True,
    )


def add_row(log: URL, table: Table, record: Any) -> None:
    """Add a record; safe for concurrent processes and machines.

    Args:
        log: From `log_of`; the table is created if missing.
        table: The table.
        record: Dataclass with the table's columns except its number and time.

    Raises:
        LabelError: If the database is damaged, or cannot be reached or written.
    """
    with writing(log, table) as connection:
        insert_row(connection, table, record)


@contextmanager
def writing(log: URL, table: Table) -> Iterator[Connection]:
    """Yield a transaction that no other writer interrupts: what is read in it still holds when it is written.

    Args:
        log: From `log_of`; the table is created if missing.
        table: The table.

    Raises:
        LabelError: If the database is damaged, or cannot be reached or written.
    """
    with connected(log, writing=True) as connection:
        _make_table(connection, table)
        yield connection


def insert_row(connection: Connection, table: Table, record: Any) -> None:
    """Add a record within a transaction; see ``add_row``."""
    connection.execute(insert(table).values(**asdict(record), time=now()))


def read_rows(log: URL, table: Table, kind: type[Entry], wanted: Mapping[str, str]) -> list[Entry]:
    """Read the rows of a table with the wanted column values, oldest first; none if there is no table.

    Args:
        log: From `log_of`.
        table: The table.
        kind: Dataclass with the table's columns.
        wanted: Required column values, such as ``{"run": "lbc"}``.

    Raises:
        LabelError: If the database is damaged or cannot be reached.
    """
    if is_file(log) and not is_there(Path(str(log.database))):
        return []
    with connected(log, writing=False) as connection:
        if table.name not in inspect(connection).get_table_names():  # a view could be endless
            return []
        return select_rows(connection, table, kind, wanted)


def select_rows(connection: Connection, table: Table, kind: type[Entry], wanted: Mapping[str, str]) -> list[Entry]:
    """Read rows within a transaction; see ``read_rows``."""
    columns = columns_of(connection, table)
    conditions = [columns[column] == value for column, value in wanted.items()]
    rows = connection.execute(select(*columns.values()).where(*conditions).order_by(table.c.id)).mappings()
    return [kind(**_checked(row, table, connection.engine.url)) for row in rows]


def _checked(row: Mapping[Any, Any], table: Table, log: URL) -> dict[str, Any]:
    """Return a row by column; SQLite keeps bytes or null in a column of text."""
    for column in table.columns:
        if not isinstance(row[column.name], column.type.python_type):
            found = type(row[column.name]).__name__
            raise LabelError(
                f"{name_of(log)} is damaged ({column.name} of row {short_repr(row['id'])} is {found}). {RESTORE}"
            )
    return {str(name): value for name, value in row.items()}


def text_rows(table: Table, entries: Sequence[Any]) -> list[list[str]]:
    """Return the column names of a table and the values of some of its entries as text."""
    head = [column.name for column in table.columns]
    return [head, *([str(getattr(entry, name)) for name in head] for entry in entries)]


def _make_table(connection: Connection, table: Table) -> None:
    """Create an append-only table if it does not exist, or add the columns that one of an earlier version lacks."""
    take_turn(connection, _LOCK)
    if inspect(connection).has_table(table.name):
        add_missing_columns(connection, table)
    else:
        table.create(connection)
        for statement in _guards(table.name).get(connection.dialect.name, ()):
            connection.execute(text(statement))


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
