import csv
import os
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy.exc import DatabaseError, IntegrityError

from cytoseg.errors import LabelError
from cytoseg.review.append_only import log_of
from cytoseg.review.database import CONNECT_S
from cytoseg.review.review_log import Entry, Judgement, add_entry, log_csv, read_entries

ANNA = Judgement("Anna Øster", "lbc", "036_0_62", "036", "corrected", "edge of\nthe cell", "a.json", "ab" * 32)
BEN = Judgement("Ben", "lbc", "051_0_0", "051", "accepted")
DATABASE = os.environ.get("CYTOSEG_TEST_DATABASE")


def lines_of(path: Path) -> list[tuple[int, str, str]]:
    """What a second reader, without SQLAlchemy, finds."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT id, author, action FROM review_log ORDER BY id").fetchall()
    connection.close()
    return found


def test_entries_are_read_as_they_were_added(tmp_path: Path) -> None:
    log = log_of(tmp_path, None)
    before = datetime.now(UTC)
    for judgement in (ANNA, BEN):
        add_entry(log, judgement)
    first, second = read_entries(log)
    assert (first.id, second.id) == (1, 2)
    assert {**vars(first), "id": 0, "time": ""} == {**vars(ANNA), "id": 0, "time": ""}
    assert before <= datetime.fromisoformat(first.time) <= datetime.fromisoformat(second.time) <= datetime.now(UTC)
    assert first.time.endswith("+00:00")
    assert lines_of(tmp_path / "review" / "log.sqlite") == [(1, "Anna Øster", "corrected"), (2, "Ben", "accepted")]


def test_entries_can_be_asked_for_by_what_stands_in_them(tmp_path: Path) -> None:
    log = log_of(tmp_path, None)
    for judgement in (ANNA, BEN):
        add_entry(log, judgement)
    assert [entry.author for entry in read_entries(log, run="lbc", crop="051_0_0")] == ["Ben"]
    assert read_entries(log, run="other") == []


def test_a_log_that_is_not_there_is_empty_and_stays_away(tmp_path: Path) -> None:
    assert read_entries(log_of(tmp_path, None)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_database_has_no_entries_until_one_is_added(tmp_path: Path) -> None:
    path = tmp_path / "mine.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (id INTEGER)")
    connection.commit()
    connection.close()
    log = log_of(tmp_path, f"sqlite:///{path}")
    assert read_entries(log) == []
    add_entry(log, BEN)
    assert lines_of(path) == [(1, "Ben", "accepted")]


@pytest.mark.parametrize("change", ["UPDATE review_log SET action = 'accepted'", "DELETE FROM review_log"])
def test_the_database_refuses_to_change_entries(tmp_path: Path, change: str) -> None:
    add_entry(log_of(tmp_path, None), ANNA)
    connection = sqlite3.connect(tmp_path / "review" / "log.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="log entries cannot be changed or deleted"):
        connection.execute(change)
    connection.close()
    assert lines_of(tmp_path / "review" / "log.sqlite") == [(1, "Anna Øster", "corrected")]


def test_an_unknown_action_is_refused(tmp_path: Path) -> None:
    wrong = Judgement("Ben", "lbc", "a", "a", "shrugged")  # type: ignore[arg-type] # which is what the test is about
    with pytest.raises(IntegrityError, match="known_action"):
        add_entry(log_of(tmp_path, None), wrong)


@pytest.mark.posix  # Windows refuses the question mark
def test_an_odd_folder_name_is_no_part_of_the_address(tmp_path: Path) -> None:
    run = tmp_path / "50% sure? #1 & è"
    add_entry(log_of(run, None), BEN)
    assert lines_of(run / "review" / "log.sqlite") == [(1, "Ben", "accepted")]
    assert len(read_entries(log_of(run, None))) == 1


WRITER = """
import sys
from pathlib import Path
from cytoseg.review.append_only import log_of
from cytoseg.review.database import CONNECT_S
from cytoseg.review.review_log import Judgement, add_entry
for number in range(15):
    add_entry(log_of(Path(sys.argv[1]), None), Judgement(sys.argv[2], "lbc", str(number), "036", "accepted"))
"""


@pytest.mark.slow
def test_people_who_write_at_once_all_get_in(tmp_path: Path) -> None:
    names = ("Anna", "Ben", "Cem")
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, name], stderr=subprocess.PIPE) for name in names]
    assert [writer.communicate()[1] for writer in writers] == [b""] * 3
    found = lines_of(tmp_path / "review" / "log.sqlite")
    assert [number for number, _, _ in found] == list(range(1, 46))
    assert sorted(author for _, author, _ in found) == sorted(names * 15)
    times = [entry.time for entry in read_entries(log_of(tmp_path, None))]
    assert times == sorted(times)


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "review" / "log.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"this was a database once" * 100)
    message = r"^the review log log\.sqlite is damaged \(file is not a database\)\. Restore a copy, or move it away\.$"
    with pytest.raises(LabelError, match=message):
        read_entries(log_of(tmp_path, None))
    with pytest.raises(LabelError, match=message):
        add_entry(log_of(tmp_path, None), BEN)


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "review").write_text("a file where the folder should be")
    with pytest.raises(
        LabelError, match=r"^the review log log\.sqlite cannot be written \(.*File exists\)\. Check the permissions"
    ):
        add_entry(log_of(tmp_path, None), BEN)


def test_a_file_that_may_not_be_opened_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "review" / "log.sqlite").mkdir(parents=True)
    with pytest.raises(LabelError, match=r"^the review log log\.sqlite cannot be read \(.+\)\. Check"):
        read_entries(log_of(tmp_path, None))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", r"^review\.log: Could not parse SQLAlchemy URL.*Write it as dialect\+driver"),
        ("sqlite://", r"^review\.log: the address names no file"),
        ("cloud://host/name", r"^review\.log: .*cloud.*Fix the address, or install the driver"),
    ],
)
def test_a_wrong_address_is_one_sentence(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        read_entries(log_of(tmp_path, url))


@pytest.mark.slow  # for the seconds until it gives up
def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        log = log_of(tmp_path, f"postgresql+psycopg://anna@127.0.0.1:{mute.getsockname()[1]}/review")
        begin = time.monotonic()
        with pytest.raises(LabelError, match=r"the review log cannot be read .* that the server is running"):
            read_entries(log)
    assert time.monotonic() - begin < 3 * CONNECT_S


def test_a_table_for_a_spreadsheet_holds_no_formula() -> None:
    entries = [Entry("=1+1", "r", "c", "s", "accepted", "a\n,b", id=number, time="t") for number in (3, 4)]
    first, second = csv.DictReader(StringIO(log_csv(entries), newline=""))
    assert (first["id"], first["author"], first["comment"], first["action"]) == ("3", "'=1+1", "a\n,b", "accepted")
    assert (second["id"], second["time"], second["sha256"]) == ("4", "t", "")


@pytest.mark.skipif(DATABASE is None, reason="CYTOSEG_TEST_DATABASE names no database")
def test_another_database_keeps_entries_likewise(tmp_path: Path) -> None:
    log, run = log_of(tmp_path, DATABASE), f"test {uuid.uuid4()}"
    for author in ("Anna Øster", "山田"):
        add_entry(log, Judgement(author, run, "036_0_62", "036", "commented", "a\nb"))
    assert [(entry.author, entry.comment) for entry in read_entries(log, run=run)] == [
        ("Anna Øster", "a\nb"),
        ("山田", "a\nb"),
    ]
    for change in ("UPDATE review_log SET action = 'accepted'", "DELETE FROM review_log", "TRUNCATE review_log"):
        engine = sqlalchemy.create_engine(log)
        with pytest.raises(DatabaseError, match="cannot be changed"), engine.begin() as connection:
            connection.execute(sqlalchemy.text(change))
        engine.dispose()
