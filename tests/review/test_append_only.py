"""A table of its own; what the database refuses and how it fails is tested with the log in test_review_log.py."""

import os
import sqlite3
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import CheckConstraint, Column, Integer, MetaData, String, Table, Text, create_engine, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DatabaseError
from sqlalchemy.schema import CreateTable

from cytoseg.errors import LabelError
from cytoseg.review import assignments, judgement_conflicts, resolutions, review_log, slide_approvals
from cytoseg.review.append_only import _guards, add_row, growing_table, log_of, read_rows, text_rows
from cytoseg.review.database import connected

DATABASE = os.environ.get("CYTOSEG_TEST_DATABASE")
NEEDS_DATABASE = pytest.mark.skipif(DATABASE is None, reason="CYTOSEG_TEST_DATABASE names no database")

TABLE = Table(
    "seen", MetaData(), Column("id", Integer, primary_key=True), Column("time", String), Column("who", String)
)


@dataclass(frozen=True)
class Seen:
    who: str


@dataclass(frozen=True, kw_only=True)
class Row(Seen):
    id: int
    time: str


@dataclass(frozen=True)
class Grown:
    """A record of a table as an earlier version had it."""

    author: str
    run: str
    who: str


@dataclass(frozen=True)
class GrownNow(Grown):
    why: str


@dataclass(frozen=True, kw_only=True)
class GrownRow(GrownNow):
    id: int
    time: str


def test_rows_come_back_as_they_were_added_with_number_and_time(tmp_path: Path) -> None:
    log = log_of(tmp_path, None)
    assert read_rows(log, TABLE, Row, {}) == []
    for who in ("Anna", "Ben", "Anna"):
        add_row(log, TABLE, Seen(who))
    rows = read_rows(log, TABLE, Row, {})
    assert [(row.id, row.who) for row in rows] == [(1, "Anna"), (2, "Ben"), (3, "Anna")]
    assert [row.id for row in read_rows(log, TABLE, Row, {"who": "Anna"})] == [1, 3]
    assert text_rows(TABLE, rows[1:2]) == [["id", "time", "who"], ["2", rows[1].time, "Ben"]]


def test_two_tables_lie_side_by_side(tmp_path: Path) -> None:
    log = log_of(tmp_path, None)
    other = Table("other", MetaData(), Column("id", Integer, primary_key=True))
    add_row(log, TABLE, Seen("Anna"))
    assert read_rows(log, other, Row, {}) == []


@pytest.mark.parametrize(("time", "who"), [(5, "Anna"), ("now", b"\xff"), (None, "Anna")])
def test_a_row_of_other_types_is_damage(tmp_path: Path, time: object, who: object) -> None:
    log = log_of(tmp_path, None)
    (tmp_path / "review").mkdir()
    with sqlite3.connect(tmp_path / "review" / "log.sqlite") as table:
        table.execute("CREATE TABLE seen (id INTEGER PRIMARY KEY, time, who)")
        table.execute("INSERT INTO seen (time, who) VALUES (?, ?)", (time, who))
    with pytest.raises(LabelError, match=r"^the review log log\.sqlite is damaged \(\w+ of row 1 is \w+\)\. Restore"):
        read_rows(log, TABLE, Row, {})


def test_an_endless_view_is_no_table(tmp_path: Path) -> None:
    log = log_of(tmp_path, None)
    (tmp_path / "review").mkdir()
    with sqlite3.connect(tmp_path / "review" / "log.sqlite") as table:
        endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
        table.execute(f"CREATE VIEW seen AS {endless} SELECT x AS id, '' AS time, 'Anna' AS who FROM c")
    assert read_rows(log, TABLE, Row, {}) == []


@pytest.mark.posix
def test_a_pipe_is_no_log(tmp_path: Path) -> None:
    log = log_of(tmp_path, None)
    (tmp_path / "review").mkdir()
    os.mkfifo(tmp_path / "review" / "log.sqlite")
    with pytest.raises(LabelError, match=r"^the review log log\.sqlite cannot be read \(not a file\)\. Check"):
        read_rows(log, TABLE, Row, {})


@pytest.mark.posix
def test_a_pipe_that_sqlite_would_open_with_the_log_is_refused(tmp_path: Path) -> None:
    log = log_of(tmp_path, None)
    add_row(log, TABLE, Seen("Anna"))
    os.mkfifo(tmp_path / "review" / "log.sqlite-journal")
    for use in (lambda: read_rows(log, TABLE, Row, {}), lambda: add_row(log, TABLE, Seen("Ben"))):
        with pytest.raises(
            LabelError, match=r"^the review log log\.sqlite cannot be read \(log\.sqlite-journal beside"
        ):
            use()


@pytest.mark.parametrize("room", [assignments, judgement_conflicts, resolutions, review_log, slide_approvals])
def test_each_table_can_be_made_by_postgresql_and_refuses_changes_there(room: ModuleType) -> None:
    table = room._TABLE
    made = str(CreateTable(table).compile(dialect=postgresql.dialect()))
    assert "id SERIAL NOT NULL" in made
    assert "CONSTRAINT known_" in made
    assert made.count("NOT NULL") == len(table.columns)
    function, trigger = _guards(table.name)["postgresql"]
    assert f"FUNCTION {table.name}_refuse()" in function
    assert f"BEFORE UPDATE OR DELETE OR TRUNCATE ON {table.name} FOR EACH STATEMENT" in trigger


@pytest.mark.parametrize("url", [None, pytest.param(DATABASE, marks=NEEDS_DATABASE)])
def test_a_table_of_an_earlier_version_is_read_and_gets_its_columns_when_it_is_written(
    tmp_path: Path, url: str | None
) -> None:
    name, check = f"grown_{uuid.uuid4().hex}", CheckConstraint("who <> ''", name="known_who")
    log, old = log_of(tmp_path, url), growing_table(name, {"who": Text()}, check)
    add_row(log, old, Grown("Anna", "r", "x"))
    now = growing_table(name, {"who": Text(), "why": String(16)}, CheckConstraint("who <> ''", name="known_who"))
    (row,) = read_rows(log, now, GrownRow, {"run": "r", "why": ""})
    assert (row.id, row.author, row.who, row.why) == (1, "Anna", "x", "")
    add_row(log, now, GrownNow("Bo", "r", "y", "z"))
    rows = read_rows(log, now, GrownRow, {})
    assert [(row.id, row.author, row.who, row.why) for row in rows] == [(1, "Anna", "x", ""), (2, "Bo", "y", "z")]
    refused = pytest.raises((LabelError, DatabaseError), match="log entries cannot be changed")
    with refused, connected(log, writing=True) as connection:
        connection.execute(text(f"UPDATE {name} SET why = 'x'"))
    with connected(log, writing=True) as connection:
        connection.execute(text(f"DROP TABLE {name}"))


def test_a_table_without_a_column_of_every_version_is_refused(tmp_path: Path) -> None:
    log = log_of(tmp_path, None)
    add_row(log, TABLE, Seen("Anna"))
    later = Table("seen", MetaData(), *(Column(name, String, nullable=False) for name in ("id", "who", "run")))
    for use in (lambda: read_rows(log, later, Row, {}), lambda: add_row(log, later, Seen("Ben"))):
        with pytest.raises(LabelError, match=r"^the table seen is damaged \(no column run\)\. Restore a copy, or move"):
            use()


RECORDS = [
    (assignments, assignments.Entry, assignments.Assignment("Anna", "r", "c", "Bo")),
    (
        judgement_conflicts,
        judgement_conflicts.Entry,
        judgement_conflicts.JudgementResolution(*"arcs", "accepted", *"ABh"),
    ),
    (resolutions, resolutions.Entry, resolutions.Resolution(*"arcs", "drawn from second", *"ABhi")),
    (review_log, review_log.Entry, review_log.Judgement(*"arcs", "corrected")),
    (slide_approvals, slide_approvals.Entry, slide_approvals.SignOff(*"ars", "needs labels")),
]


@pytest.mark.parametrize(("room", "kind", "record"), RECORDS)
@NEEDS_DATABASE
def test_another_database_keeps_each_table(tmp_path: Path, room: ModuleType, kind: Any, record: Any) -> None:
    log, record = log_of(tmp_path, DATABASE), replace(record, run=f"test {uuid.uuid4()}")
    add_row(log, room._TABLE, record)
    (row,) = read_rows(log, room._TABLE, kind, {"run": record.run})
    assert {name: getattr(row, name) for name in vars(record)} == vars(record)
    engine = create_engine(log)
    for change in ("UPDATE {} SET author = 'x'", "DELETE FROM {}", "TRUNCATE {}"):
        with pytest.raises(DatabaseError, match="cannot be changed"), engine.begin() as connection:
            connection.execute(text(change.format(room._TABLE.name)))
    engine.dispose()
