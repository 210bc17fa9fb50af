"""A decoder and a student trained from the page as jobs: progress, time left, cancelled, resumed and finished."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from cytoseg.commands.review import streamlit_command
from cytoseg.jobs.job_database import JobPlace
from cytoseg.jobs.job_table import CANCELLED, FINISHED, Job, jobs_of
from cytoseg.jobs.start_and_cancel import log_tail
from cytoseg.recipe import load_recipe, recipe_of_run
from cytoseg.runs import read_metrics
from cytoseg.shipped import shipped_review
from tests.browser.bench import type_in, until
from tests.browser.conftest import DRAWN_MS, free_port, open_page, rested, serve
from tests.end_to_end.conftest import GENERATE, RECIPE, run_command

pytestmark = [pytest.mark.browser, pytest.mark.slow]  # some minutes: four trainings

STEPS = 300
LONG = f"""\
decoder: {{size_px: 32, batch: 2, steps: {STEPS}, passes: 10000}}
student: {{teacher: mlps, crops: 2, steps: {STEPS}}}
"""
BEFORE = (GENERATE, "train-ddpm tiny.yaml", "label-import made/labelled --recipe tiny.yaml")


@dataclass(frozen=True)
class Jobs:
    """The page Jobs of a run that can be trained."""

    page: Page
    run: Path

    def latest(self) -> Job:
        return jobs_of(JobPlace(self.run))[0]

    def log(self) -> str:
        return log_tail(JobPlace(self.run), self.latest().id)

    def losses(self) -> list[int]:
        """The steps of which the loss was logged."""
        return [int(row["step"]) for row in read_metrics(self.run / "interpreter" / "metrics.jsonl")]

    def kind(self) -> str:
        """The kind of the trained bundle, after which its weights are called."""
        (weights,) = (self.run / "interpreter" / "bundle").glob("*.safetensors")
        return weights.stem


@pytest.fixture
def jobs(chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(RECIPE.replace("decoder: {size_px: 32, batch: 2}\n", LONG), encoding="utf-8")
    for line in BEFORE:
        result = run_command(*line.split())
        assert result.exit_code == 0, result.output
    port = free_port()
    with serve(
        streamlit_command(load_recipe("tiny.yaml", [f"review.port={port}"])), port=port, folder=shipped_review()
    ) as address:
        page = open_page(chromium, address)
        page.set_default_timeout(DRAWN_MS)
        page.goto(f"{address}/jobs")
        type_in(page, "Your name", "Anna")
        yield Jobs(page, tmp_path / "runs" / "tiny")
        page.context.close()


def _start(jobs: Jobs, kind: str) -> None:
    box = jobs.page.get_by_role("combobox", name="Kind of model")
    box.fill(kind)
    box.press("Enter")
    rested(jobs.page)
    jobs.page.get_by_role("button", name="Train", exact=True).click()


def _cancel_in(jobs: Jobs, what: str) -> Job:
    """Wait until the page shows how far the training is and how long it takes, and cancel it; gives the job."""
    shown = jobs.page.get_by_text(re.compile(rf"^{what}, loss [\d.]+: [1-9]\d* of {STEPS}, about .+ to go$"))
    expect(shown).to_be_visible(timeout=DRAWN_MS)
    jobs.page.get_by_role("button", name="Cancel").click()
    number = jobs.latest().id
    expect(jobs.page.get_by_text(re.compile(rf"{number}\. Train: \w+: cancelled"))).to_be_visible(timeout=DRAWN_MS)
    job = jobs.latest()
    assert (job.state, job.said, job.total) == (CANCELLED, "", STEPS)
    assert 0 < job.done < STEPS
    return job


def _resume(jobs: Jobs) -> Job:
    """Resume the latest job on the page and wait for its end; gives the new one."""
    before = jobs.latest()
    rested(jobs.page)  # the page is drawn anew when a job ends
    jobs.page.get_by_role("button", name="Resume").first.click()
    until(lambda: jobs.latest().id > before.id and jobs.latest().is_over, wait_s=240)
    job = jobs.latest()
    assert (job.state, job.command, job.given, job.author) == (FINISHED, before.command, before.given, "Anna"), job.said
    done = jobs.page.get_by_text(re.compile(rf"{job.id}\. Train: {job.given[0]}: finished"))
    expect(done).to_be_visible(timeout=DRAWN_MS)
    return job


def test_a_decoder_and_a_student_are_cancelled_resumed_and_finished(jobs: Jobs) -> None:
    _start(jobs, "Decoder")
    cancelled = _cancel_in(jobs, "decoder")
    stopped = jobs.losses()
    assert stopped == list(range(1, len(stopped) + 1))
    assert len(stopped) >= cancelled.done
    _resume(jobs)
    assert jobs.losses() == list(range(1, STEPS + 1))  # it went on where it had stopped
    assert "Decoder tuned; weights of step" in jobs.log()
    assert (jobs.kind(), recipe_of_run(jobs.run).interpreter.kind) == ("decoder", "decoder")

    _start(jobs, "Student")
    _cancel_in(jobs, "student")
    assert jobs.kind() == "decoder"  # what was trained before is kept until the student is
    _resume(jobs)
    assert jobs.losses() == list(range(1, STEPS + 1))
    assert "Student trained on" in jobs.log()
    assert (jobs.kind(), recipe_of_run(jobs.run).interpreter.kind) == ("student", "student")
