"""Columns that a table of an earlier version lacks: filled in when reading, and added before writing."""

from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Table, inspect, literal, text
from sqlalchemy.schema import CreateColumn

from cytoseg.errors import LabelError
from cytoseg.review.database import RESTORE


def columns_of(connection: Connection, table: Table) -> dict[str, ColumnElement[Any]]:
    """Return the columns of a table for a query, by name; a missing one is replaced by its default, 0 or empty text.

    Args:
        connection: In a transaction.
        table: The table as this version declares it; it exists.

    Raises:
        LabelError: If it lacks a column that every version had.
    """
    missing = {column.name for column in _missing(connection, table)}
    return {column.name: _default(column) if column.name in missing else column for column in table.columns}


def add_missing_columns(connection: Connection, table: Table) -> None:
    """Add the columns that a table of an earlier version lacks.

    Args:
        connection: In a transaction that may write.
        table: The table as this version declares it; it exists.

    Raises:
        LabelError: If it lacks a column that every version had.
    """
    for column in _missing(connection, table):
        declared = CreateColumn(column).compile(dialect=connection.dialect)
        connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {declared}"))


def _missing(connection: Connection, table: Table) -> list[Column[Any]]:
    there = {column["name"] for column in inspect(connection).get_columns(table.name)}
    missing = [column for column in table.columns if column.name not in there]
    for column in missing:
        if column.server_default is None:
            raise LabelError(f"the table {table.name} is damaged (no column {column.name}). {RESTORE}")
    return missing


def _default(column: Column[Any]) -> ColumnElement[Any]:
    empty = 0 if column.type.python_type is int else ""
    return literal(empty, column.type).label(column.name)
