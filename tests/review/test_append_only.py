"""A table of its own; what the database refuses and how it fails is tested with the log in test_review_log.py."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, String, Table

from cytoseg.review.append_only import add_row, log_of, read_rows, text_rows

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
