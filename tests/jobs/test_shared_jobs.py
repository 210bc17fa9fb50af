"""Jobs in a database that several servers share.

An SQLite file stands for the server, which differs in its connection; CYTOSEG_TEST_DATABASE names a real one.
"""

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from cytoseg.errors import CytosegError
from cytoseg.jobs import job_database, job_table, runner
from cytoseg.jobs.job_database import CLOCK, FILE, LOGS, NAME, OF_FILE, OF_SERVER, JobPlace, opened
from cytoseg.jobs.job_table import (
    CANCELLED,
    FINISHED,
    LOST,
    RUNNING,
    SILENT,
    SILENT_S,
    WAITING,
    add_job,
    begun_job,
    job_of,
    jobs_before,
    jobs_of,
    log_path,
    renew_job,
    update_job,
)
from cytoseg.jobs.processes import Process, birth_of
from cytoseg.jobs.start_and_cancel import cancel_job, log_tail
from cytoseg.review.database import address_of
from tests.jobs.conftest import begin_at, wait_for

DATABASE = os.environ.get("CYTOSEG_TEST_DATABASE")
NEEDS_DATABASE = pytest.mark.skipif(DATABASE is None, reason="CYTOSEG_TEST_DATABASE names no database")


@pytest.fixture(params=["file", pytest.param("server", marks=NEEDS_DATABASE)])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a database that several machines share."""
    if request.param == "server":
        engine = create_engine(address_of(str(DATABASE)))
        with engine.begin() as connection:
            connection.execute(text(f"DROP TABLE IF EXISTS {OF_SERVER.name}"))  # what an earlier test has left
        engine.dispose()
        return str(DATABASE)
    monkeypatch.setattr(job_database, "is_file", lambda _: False)
    return f"sqlite:///{tmp_path / 'shared.sqlite'}"


@pytest.fixture
def here(run: Path, url: str) -> JobPlace:
    """The jobs of runs/tiny."""
    return JobPlace(run, url)


@pytest.fixture
def there(tmp_path: Path, url: str) -> JobPlace:
    """The jobs of a run of that name that another server shows, from another folder."""
    folder = tmp_path / "others" / "tiny"
    folder.mkdir(parents=True)
    return JobPlace(folder, url)


_NUMBERS = itertools.count()


def _add(place: JobPlace, *, alive: bool = True, device: str = "first") -> int:
    birth = birth_of(os.getpid()) or ""
    assert birth
    start = Process(os.getpid(), birth if alive else "long ago")
    given = (f"slide {next(_NUMBERS)}", "ü")  # the same job is not started again
    return add_job(place, "queue", given, author="Anna", device=device, start=lambda _: start)


def _move(place: JobPlace, number: int, machine: str) -> None:
    with opened(place, writing=True) as connection:
        change = text("UPDATE review_jobs SET machine = :machine WHERE id = :number")
        connection.execute(change, {"machine": machine, "number": number})


def test_a_job_is_recorded_there_and_not_in_the_run_folder(here: JobPlace, begin: Callable[..., int]) -> None:
    assert jobs_of(here) == []
    number = begin_at(here, "label-import", given=["to_label"])
    job = wait_for(here, number, FINISHED)
    assert (job.command, job.given, job.author, job.said) == ("label-import", ("to_label",), "Anna", "")
    assert (job.what, job.done, job.total, job.machine) == ("features", 1, 4, socket.gethostname())
    assert log_path(here, number).name == f"shared_{number:04}.log"
    assert log_tail(here, number).splitlines()[-1] == "all is well"
    assert not (here.run / FILE).exists()


@pytest.mark.slow
def test_two_servers_run_one_job_at_a_time_on_a_device(
    here: JobPlace, there: JobPlace, begin: Callable[..., int]
) -> None:
    first = begin_at(here, "study")
    wait_for(here, first, RUNNING)
    second = begin_at(there, "queue")
    while not (here.run / "began").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    assert job_of(there, second).state == WAITING
    assert cancel_job(here, first)
    wait_for(here, first, CANCELLED)
    wait_for(there, second, FINISHED)
    assert not (here.run.parent / ".jobs-first.lock").exists()


def test_each_run_lists_its_own_jobs(here: JobPlace, there: JobPlace) -> None:
    first, second, third = _add(here), _add(there), _add(here)
    assert first < second < third
    assert [job.id for job in jobs_of(here)] == [third, first]
    assert [job.id for job in jobs_of(there)] == [second]
    with pytest.raises(CytosegError, match=rf"^the job table: this run has no job {second}\. Load the page again\.$"):
        job_of(here, second)


def test_what_is_ahead_is_what_runs_on_the_device_of_the_machine(here: JobPlace, there: JobPlace) -> None:
    device = f"cuda-{time.time_ns()}"
    ahead, over, lost, elsewhere, mine = (_add(there, device=device, alive=n != 2) for n in range(5))
    update_job(there, over, state=FINISHED)
    _move(there, elsewhere, "other")
    other, later = _add(here, device="first"), _add(here, device=device)
    assert job_of(there, lost).state == LOST
    assert [job.id for job in jobs_before(there, job_of(there, mine))] == [ahead]
    assert [job.id for job in jobs_before(here, job_of(here, later))] == [mine, ahead]
    assert ahead not in [job.id for job in jobs_before(here, job_of(here, other))]


def test_the_process_of_another_machine_is_not_looked_for_on_this_one(here: JobPlace) -> None:
    number = _add(here, alive=False)
    assert job_of(here, number).state == LOST
    _move(here, number, "other")
    assert job_of(here, number).state == WAITING
    with pytest.raises(CytosegError, match=rf"^job {number}: runs on other\. Cancel it in the app there\.$"):
        cancel_job(here, number)
    update_job(here, number, state=FINISHED)
    assert not cancel_job(here, number)


def _last_seen(place: JobPlace, number: int, ago_s: int) -> None:
    with opened(place, writing=True) as connection:
        change = OF_SERVER.update().where(OF_SERVER.c.id == number).values(seen=CLOCK - ago_s)
        connection.execute(change)


def test_contact_is_lost_with_a_machine_that_gives_no_sign_of_life(here: JobPlace) -> None:
    number = _add(here)
    _move(here, number, "slide-pc")
    update_job(here, number, state=RUNNING)
    _last_seen(here, number, SILENT_S - 20)
    assert job_of(here, number).state == RUNNING
    _last_seen(here, number, 2 * SILENT_S + 5)
    job = job_of(here, number)
    assert (job.state, job.is_over) == (SILENT, False)
    assert job.said.startswith("slide-pc has given no sign of life for 10 min 0")
    assert job.said.endswith("If it is off, resume the job here.")
    renew_job(here, number)
    assert job_of(here, number).state == RUNNING
    _last_seen(here, number, 2 * SILENT_S)
    update_job(here, number, state=FINISHED)  # it was cut off, and is back
    assert job_of(here, number).state == FINISHED


def test_the_processes_of_this_machine_are_asked_and_not_their_signs_of_life(here: JobPlace) -> None:
    alive, gone = _add(here), _add(here, alive=False)
    for number in (alive, gone):
        _last_seen(here, number, 2 * SILENT_S)
    assert [job_of(here, number).state for number in (alive, gone)] == [WAITING, LOST]


def test_a_runner_gives_signs_of_life_while_its_command_is_silent(
    here: JobPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, seen = _add(here), threading.Event()

    def renewed(place: JobPlace, job: int) -> None:
        assert (place, job) == (here, number)
        seen.set()
        raise CytosegError("the job table cannot be written (restarting).")  # the next one may be

    def silent(*_: object) -> tuple[int, str]:
        seen.clear()
        assert seen.wait(20)
        seen.clear()
        assert seen.wait(20)
        return 0, ""

    monkeypatch.setattr(runner, "BEAT_S", 0.02)
    monkeypatch.setattr(runner, "renew_job", renewed)
    monkeypatch.setattr(runner._Cancel, "listen", lambda _: None)
    monkeypatch.setattr(runner, "_run", silent)
    monkeypatch.setattr(runner, "jobs_before", lambda *_: [])
    assert runner.main([str(here.run), str(number), str(here.url), "queue"]) == 0
    assert job_of(here, number).state == FINISHED
    for thread in threading.enumerate():
        if thread.name == "signs of life":
            thread.join(5)
            assert not thread.is_alive()


def test_a_copied_or_renamed_run_folder_keeps_its_jobs(here: JobPlace, tmp_path: Path) -> None:
    number = _add(here)
    moved = here.run.rename(tmp_path / "runs" / "renamed")
    assert [job.id for job in jobs_of(JobPlace(moved, here.url))] == [number]


def test_nothing_is_recorded_of_what_cannot_be_started(
    here: JobPlace, begin: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("cytoseg.jobs.start_and_cancel.start_apart", refused)
    with pytest.raises(CytosegError, match=r"^jobs: queue cannot be started \(Resource temporarily unavailable\)\.$"):
        begin_at(here, "queue")
    assert jobs_of(here) == []


def test_a_started_process_waits_until_its_job_is_written(here: JobPlace) -> None:
    number = _add(here)
    assert begun_job(here, number) == job_of(here, number)


def test_a_damaged_row_is_refused(here: JobPlace) -> None:
    number = _add(here)
    with opened(here, writing=True) as connection:
        connection.execute(text("UPDATE review_jobs SET given = '{}' WHERE id = :number"), {"number": number})
    with pytest.raises(CytosegError, match=r"^the job table is damaged \(what a job was given is not a list\)\. Ask"):
        jobs_of(here)


def test_the_table_of_an_earlier_version_is_read_and_gets_its_columns_when_it_is_written(
    here: JobPlace, url: str
) -> None:
    number = _add(here)
    _move(here, number, "other")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE review_jobs DROP COLUMN seen"))
    engine.dispose()
    job = job_of(here, number)
    assert job.state == SILENT
    assert job.said.startswith("other has given no sign of life. It is switched off")
    second = _add(here)
    assert [(job.id, job.state) for job in jobs_of(here)] == [(second, WAITING), (number, SILENT)]
    renew_job(here, number)
    assert job_of(here, number).state == WAITING


def test_the_table_can_be_made_by_postgresql() -> None:
    made = str(CreateTable(OF_SERVER).compile(dialect=postgresql.dialect()))
    assert "id SERIAL NOT NULL" in made
    assert made.count("NOT NULL") == len(OF_SERVER.columns)
    own = {column.name for column in OF_SERVER.columns} - {column.name for column in OF_FILE.columns}
    assert own == {"machine", "run", "seen"}
    assert str(CLOCK.compile(dialect=postgresql.dialect())) == "CAST(EXTRACT(epoch FROM now()) AS INTEGER)"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", r"^review\.log: Could not parse SQLAlchemy URL.*Write it as dialect\+driver"),
        ("sqlite://", r"^review\.log: the address names no file"),
        ("cloud://host/name", r"^review\.log: .*cloud.*Fix the address, or install the driver"),
    ],
)
def test_a_wrong_address_is_one_sentence(run: Path, url: str, message: str) -> None:
    with pytest.raises(CytosegError, match=message):
        _add(JobPlace(run, url))
    assert list(run.iterdir()) == []


def test_a_server_that_does_not_answer_is_one_sentence(run: Path) -> None:
    pytest.importorskip("psycopg")
    for use in (lambda: _add(JobPlace(run, "postgresql+psycopg://127.0.0.1:9/x")),):
        with pytest.raises(
            CytosegError, match=r"^the job table cannot be written \(.*refused.*\)\. Check the address, the password"
        ):
            use()


def test_a_file_named_by_the_address_leaves_the_jobs_in_the_run_folder(run: Path, tmp_path: Path) -> None:
    _add(JobPlace(run, f"sqlite:///{tmp_path / 'log.sqlite'}"))
    assert [job.id for job in jobs_of(JobPlace(run))] == [1]
    assert not (tmp_path / "log.sqlite").exists()


@pytest.mark.parametrize("content", [b"\xff", b"", b"a\nb", b"a" * 401])
def test_a_damaged_name_is_refused(here: JobPlace, content: bytes) -> None:
    (here.run / LOGS).mkdir()
    (here.run / LOGS / NAME).write_bytes(content)
    with pytest.raises(CytosegError, match=rf"^{LOGS}/{NAME}: (cannot be read|is damaged).* move it away"):
        jobs_of(here)


def test_a_name_that_cannot_be_written_is_one_sentence(here: JobPlace) -> None:
    (here.run / LOGS).write_text("a file where the folder should be")
    with pytest.raises(CytosegError, match=rf"^{LOGS}/{NAME}: cannot be written \(.*\)\. Check the permissions\.$"):
        _add(here)


def test_the_end_of_a_job_is_recorded_when_the_server_is_back(here: JobPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    number, failed = _add(here), []

    def update(*given: object, **values: object) -> None:
        if len(failed) < 3:
            failed.append(values)
            raise CytosegError("the job table cannot be written (restarting).")
        job_table.update_job(*given, **values)  # type: ignore[arg-type] # as they came

    monkeypatch.setattr(runner, "AGAIN_S", (0.0,) * 5)
    monkeypatch.setattr(runner, "update_job", update)
    monkeypatch.setattr(runner._Cancel, "listen", lambda _: None)
    monkeypatch.setattr(runner, "_run", lambda *_: (0, ""))
    monkeypatch.setattr(runner, "jobs_before", lambda *_: [])
    assert runner.main([str(here.run), str(number), str(here.url), "queue"]) == 0
    assert job_of(here, number).state == FINISHED
    assert len(failed) == 3
