"""Tables of jobs that another program, a crash or an attacker has changed: read, or refused in one line."""

import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cytoseg.errors import CytosegError
from cytoseg.jobs import job_database, job_table
from cytoseg.jobs.job_database import FILE, JobPlace
from cytoseg.jobs.job_table import FINISHED, RUNNING, add_job, jobs_of, update_job
from cytoseg.jobs.processes import Process, birth_of

TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT, command TEXT NOT NULL, given TEXT NOT NULL, author TEXT NOT NULL,
  device TEXT NOT NULL, created TEXT NOT NULL, state TEXT NOT NULL, pid INTEGER NOT NULL DEFAULT 0,
  birth TEXT NOT NULL DEFAULT '', started TEXT NOT NULL DEFAULT '', ended TEXT NOT NULL DEFAULT '',
  what TEXT NOT NULL DEFAULT '', done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0,
  time_left TEXT NOT NULL DEFAULT '', said TEXT NOT NULL DEFAULT '')
"""
"""As existing files have it."""


def _add(run: Path, **values: Any) -> None:
    row = {"command": "predict", "given": "[]", "author": "Anna", "device": "cpu", "created": "", "state": "finished"}
    row |= values
    with sqlite3.connect(run / FILE) as table:
        table.execute(TABLE)
        columns = ", ".join(row)
        table.execute(f"INSERT INTO jobs ({columns}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))


def _refusal(run: Path) -> str:
    with pytest.raises(CytosegError) as caught:
        jobs_of(JobPlace(run))
    told = str(caught.value)
    assert told.isprintable()
    assert len(told) < 500
    return told


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"given": "[" * 100_000 + "]" * 100_000}, "what a job was given"),
        ({"given": "{}"}, "what a job was given is not a list"),
        ({"given": "9" * 10_000}, "what a job was given"),
        ({"given": b"\xff\xfe"}, "what a job was given"),
        ({"pid": "abc"}, "pid of job 1 is str"),
        ({"done": "abc"}, "done of job 1 is str"),
        ({"total": b"\0"}, "total of job 1 is bytes"),
        ({"total": 1.5}, "total of job 1 is float"),
        ({"said": b"\xff"}, "said of job 1 is bytes"),
        ({"state": b"\xff"}, "state of job 1 is bytes"),
    ],
)
def test_a_hostile_row_is_refused(run: Path, values: dict[str, Any], said: str) -> None:
    _add(run, **values)
    assert f"jobs.sqlite: is damaged ({said}" in _refusal(run)


def test_an_endless_view_is_no_table(run: Path) -> None:
    columns = [name for name in job_table.Job.__dataclass_fields__ if name not in ("id", "given")]
    shown = ", ".join(["x AS id", "'[]' AS given", *(f"'' AS {name}" for name in columns)])
    with sqlite3.connect(run / FILE) as table:
        endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
        table.execute(f"CREATE VIEW jobs AS {endless} SELECT {shown} FROM c")
    assert jobs_of(JobPlace(run)) == []


@pytest.mark.posix
def test_a_pipe_a_folder_or_a_link_is_refused(run: Path, tmp_path: Path) -> None:
    os.mkfifo(run / FILE)
    assert "jobs.sqlite: cannot be read (a link, or not a file)" in _refusal(run)
    (run / FILE).unlink()
    (run / FILE).mkdir()
    assert "jobs.sqlite: cannot be read (a link, or not a file)" in _refusal(run)
    (run / FILE).rmdir()
    _add(run)
    (run / FILE).rename(tmp_path / "elsewhere")
    (run / FILE).symlink_to(tmp_path / "elsewhere")
    assert "jobs.sqlite: cannot be read (a link, or not a file)" in _refusal(run)


@pytest.mark.posix
@pytest.mark.parametrize("part", ["journal", "wal", "shm"])
def test_a_pipe_that_sqlite_would_open_is_refused(run: Path, part: str) -> None:
    _add(run)
    pipe = run / f"{FILE}-{part}"
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    wanted = f"jobs.sqlite: cannot be read (jobs.sqlite-{part} beside it is a link, or not a file). Remove that."
    assert _refusal(run) == wanted
    with (
        pytest.raises(CytosegError, match=f"jobs.sqlite-{part} beside it"),
        job_database.opened(JobPlace(run), writing=True),
    ):
        pass


def test_a_page_does_not_wait_for_a_locked_table(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_database, "READ_WAIT_S", 0.1)
    _add(run)
    holder = sqlite3.connect(run / FILE, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    begin = time.monotonic()
    assert "jobs.sqlite: cannot be read (database is locked)" in _refusal(run)
    assert time.monotonic() - begin < 5
    holder.close()
    assert len(jobs_of(JobPlace(run))) == 1


def test_of_too_many_rows_the_latest_are_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_table, "_MOST", 5)
    for _ in range(7):
        _add(run)
    assert [job.id for job in jobs_of(JobPlace(run))] == [7, 6, 5, 4, 3]


def test_a_table_of_an_earlier_version_is_read_and_gets_its_columns_when_it_is_written(run: Path) -> None:
    _add(run, total=3)
    with sqlite3.connect(run / FILE) as table:
        table.execute("ALTER TABLE jobs DROP COLUMN said")
        table.execute("ALTER TABLE jobs DROP COLUMN total")
    (job,) = jobs_of(JobPlace(run))
    assert (job.command, job.total, job.said) == ("predict", 0, "")
    job_table.update_job(JobPlace(run), 1, total=5, said="done")
    (job,) = jobs_of(JobPlace(run))
    assert (job.command, job.total, job.said) == ("predict", 5, "done")


def test_a_table_without_a_column_of_every_version_is_refused(run: Path) -> None:
    _add(run)
    with sqlite3.connect(run / FILE) as table:
        table.execute("ALTER TABLE jobs DROP COLUMN author")
    assert "the table jobs is damaged (no column author). Restore a copy, or move it away." in _refusal(run)
    with pytest.raises(CytosegError, match="no column author"):
        job_table.update_job(JobPlace(run), 1, total=5)


def test_of_presses_in_the_same_instant_one_starts_the_job(run: Path) -> None:
    place, me = JobPlace(run), Process(os.getpid(), birth_of(os.getpid()) or "")
    started: list[int] = []
    refused: list[str] = []
    together = threading.Barrier(8)

    def start(number: int) -> Process:
        started.append(number)
        return me

    def press() -> None:
        together.wait()
        try:
            add_job(place, "predict", ("a", "b"), author="Anna", device="first", start=start)
        except CytosegError as error:
            refused.append(str(error))

    presses = [threading.Thread(target=press) for _ in range(8)]
    for one in presses:
        one.start()
    for one in presses:
        one.join()
    assert [job.id for job in jobs_of(place)] == started == [1]
    assert len(refused) == 7
    assert {text.split(", started")[0] for text in refused} == {"jobs: not started again, because job 1"}


def test_the_same_job_is_started_again_once_it_has_ended(run: Path) -> None:
    place, here, gone = JobPlace(run), Process(os.getpid(), birth_of(os.getpid()) or ""), Process(os.getpid(), "then")

    def add(process: Process, *given: str) -> int:
        return add_job(place, "predict", given, author="Anna", device="first", start=lambda _: process)

    assert (add(here, "a"), add(here, "b"), add(gone, "c"), add(here, "c")) == (1, 2, 3, 4)  # job 3 was lost
    update_job(place, 1, state=RUNNING)
    with pytest.raises(CytosegError, match="job 1, started by Anna, does the same and has not ended"):
        add(here, "a")
    update_job(place, 1, state=FINISHED)
    assert add(here, "a") == 5
