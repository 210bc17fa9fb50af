"""Real jobs: order, cancelling, failure, repetition and identification."""

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cytoseg.errors import CytosegError
from cytoseg.jobs.job_database import FILE, JobPlace
from cytoseg.jobs.job_table import CANCELLED, FAILED, FINISHED, LOST, RUNNING, WAITING, job_of, jobs_of
from cytoseg.jobs.start_and_cancel import cancel_job, log_tail
from tests.jobs.conftest import wait_for

Begin = Callable[..., int]


def test_a_job_runs_its_command_on_the_runs_recipe_and_is_recorded(run: Path, begin: Begin) -> None:
    number = begin("label-import", given="to_label")
    job = wait_for(run, number, FINISHED)
    recipe = run / "recipe.yaml"
    assert (run / "began").read_text() == f"label-import {run / 'to_label'} --recipe {recipe}"
    assert (job.command, job.given, job.author, job.said) == ("label-import", ("to_label",), "Anna", "")
    assert (job.what, job.done, job.total) == ("features", 1, 4)
    assert job.created <= job.started <= job.ended
    assert log_tail(JobPlace(run), number).splitlines()[-1] == "all is well"


def test_a_failed_job_shows_its_one_line(run: Path, begin: Begin) -> None:
    job = wait_for(run, begin("evaluate"), FAILED)
    assert job.said == "run: no bundle yet. Train first."


@pytest.mark.slow
def test_jobs_of_a_device_run_one_at_a_time_and_are_cancelled_as_by_ctrl_c(run: Path, begin: Begin) -> None:
    first = begin("study")
    wait_for(run, first, RUNNING)
    second, other = begin("queue"), begin("train-ddpm", device="cuda-1")
    wait_for(run, other, FINISHED)  # another device has a turn of its own
    assert job_of(JobPlace(run), second).state == WAITING
    while not (run / "began").exists():
        time.sleep(0.05)
    time.sleep(0.3)
    assert cancel_job(JobPlace(run), first)
    assert wait_for(run, first, CANCELLED).said == ""
    assert (run / "interrupted").exists()
    wait_for(run, second, FINISHED)
    assert not cancel_job(JobPlace(run), second)
    assert [job.id for job in jobs_of(JobPlace(run))] == [other, second, first]


@pytest.mark.slow
def test_a_waiting_job_is_cancelled_before_it_begins(run: Path, begin: Begin) -> None:
    first = begin("study")
    wait_for(run, first, RUNNING)
    second = begin("queue")
    assert cancel_job(JobPlace(run), second)  # at once, when it cannot handle an interrupt yet
    wait_for(run, second, CANCELLED)
    cancel_job(JobPlace(run), first)
    wait_for(run, first, CANCELLED)


@pytest.mark.posix
def test_a_killed_job_is_lost_and_lets_the_next_one_run(run: Path, begin: Begin) -> None:
    number = begin("study")
    os.killpg(wait_for(run, number, RUNNING).pid, signal.SIGKILL)
    job = wait_for(run, number, LOST)
    assert job.said.startswith("Its process or the machine ended without a message: it was killed")
    wait_for(run, begin(), FINISHED)


@pytest.mark.posix
def test_a_command_that_was_killed_is_said_to_be(run: Path, begin: Begin) -> None:
    number = begin("study")
    pid = wait_for(run, number, RUNNING).pid
    while not (run / "began").exists():
        time.sleep(0.05)
    (command,) = psutil.Process(pid).children()
    command.kill()
    assert wait_for(run, number, FAILED).said == (
        "The command was killed (SIGKILL), often because the memory was full. Close other programs first."
    )


def test_another_process_of_that_number_is_neither_the_job_nor_interrupted(run: Path, begin: Begin) -> None:
    number = begin()
    wait_for(run, number, FINISHED)
    with sqlite3.connect(run / FILE) as table:
        table.execute("UPDATE jobs SET state = 'running', pid = ?, birth = 'long ago'", (os.getpid(),))
    table.close()
    assert job_of(JobPlace(run), number).state == LOST
    assert not cancel_job(JobPlace(run), number)


@pytest.mark.slow
@pytest.mark.posix
def test_a_table_from_elsewhere_names_no_process_that_is_no_job(run: Path, begin: Begin) -> None:
    from_table = begin()
    wait_for(run, from_table, FINISHED)
    birth = Path(f"/proc/{os.getpid()}/stat")
    if not birth.exists():
        pytest.skip("no /proc here")
    started = birth.read_text().rpartition(")")[2].split()[19]
    with sqlite3.connect(run / FILE) as table:
        table.execute("UPDATE jobs SET state = 'running', pid = ?, birth = ?", (os.getpid(), started))
    table.close()
    assert job_of(JobPlace(run), from_table).state == RUNNING  # it lives
    assert not cancel_job(JobPlace(run), from_table)


@pytest.mark.parametrize(
    ("command", "author", "given", "message"),
    [
        ("train-interpreter", "", {}, "the name is empty"),
        ("rm -rf", "Anna", {}, "is not a command that can be started"),
        ("evaluate", "Anna", {"given": "/etc"}, "evaluate takes nothing"),
        ("label-import", "Anna", {"given": "../../elsewhere"}, "label-import takes one of to_label"),
        ("predict", "Anna", {}, "predict takes slides"),
        ("predict", "Anna", {"given": "--out=/tmp/x"}, "predict takes slides"),
        ("edit", "Anna", {}, "edit takes a crop"),
        ("edit", "Anna", {"given": "to_label/../../a"}, "edit takes a crop"),
        ("edit", "Anna", {"given": "elsewhere/a"}, "edit takes a crop"),
        ("edit", "Anna", {"given": "to_label"}, "edit takes a crop"),
        ("edit", "Anna", {"given": "queue/.hidden"}, "edit takes a crop"),
    ],
)
def test_what_may_not_be_started_is_not(
    run: Path, begin: Begin, command: str, author: str, given: dict[str, str], message: str
) -> None:
    with pytest.raises(CytosegError, match=message):
        begin(command, author, **given)
    assert jobs_of(JobPlace(run)) == []


def test_nothing_is_recorded_of_what_cannot_be_started(
    run: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("cytoseg.jobs.start_and_cancel.start_apart", refused)
    with pytest.raises(CytosegError, match=r"queue cannot be started \(Resource"):
        begin("queue")
    assert jobs_of(JobPlace(run)) == []


def test_the_job_knows_no_secret_of_the_app(run: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYTOSEG_REVIEW_TOKEN", "secret")
    monkeypatch.setenv("CYTOSEG_PARENT", "1")
    given: list[dict[str, str]] = []

    def start(_command: object, *, folder: Path, surroundings: dict[str, str]) -> None:
        given.append(surroundings)
        raise OSError

    monkeypatch.setattr("cytoseg.jobs.start_and_cancel.start_apart", start)
    with pytest.raises(CytosegError):
        begin("queue")
    assert not {"CYTOSEG_REVIEW_TOKEN", "CYTOSEG_PARENT"} & given[0].keys()


def test_a_damaged_table_is_reported_in_one_line(run: Path) -> None:
    assert jobs_of(JobPlace(run)) == []
    (run / FILE).write_bytes(b"no table" * 100)
    with pytest.raises(CytosegError, match=r"jobs.sqlite: is damaged \(.*\)\. Move it away"):
        jobs_of(JobPlace(run))
    (run / FILE).unlink()
    (run / FILE).mkdir()
    with pytest.raises(CytosegError, match=r"jobs.sqlite: cannot be read"):
        jobs_of(JobPlace(run))
    (run / FILE).rmdir()
    with pytest.raises(CytosegError, match="has no job 7"):
        job_of(JobPlace(run), 7)
