"""Jobs on the pages: starting them, and a list with progress and log."""

from collections.abc import Callable, Sequence
from functools import partial

import state
import streamlit as st
import tiles

from cytoseg.errors import CytosegError
from cytoseg.evaluation.run_folder import time_text
from cytoseg.jobs.job_commands import ORDERS
from cytoseg.jobs.job_database import JobPlace
from cytoseg.jobs.job_table import CANCELLED, FAILED, FINISHED, LOST, RUNNING, SILENT, WAITING, Job, jobs_of
from cytoseg.jobs.start_and_cancel import cancel_job, log_tail
from cytoseg.workflows.start_from_app import start_on_run

LOOK_S = 2.0
"""Refresh interval of the job list in seconds."""
ICONS = {
    WAITING: "hourglass",
    RUNNING: "sync",
    FINISHED: "check",
    FAILED: "error",
    LOST: "error",
    SILENT: "signal_disconnected",
}
NEXT = {
    FAILED: "Correct the cause, then press *Resume*: finished work is not repeated.",
    LOST: "Press *Resume* to continue: finished work is not repeated.",
    CANCELLED: "Press *Resume* to continue: finished work is not repeated.",
}
"""What to do with a job that did not finish."""
_SHOWN = 30


def start(command: str, author: str, keys: Sequence[str] = ()) -> None:
    """Start a command on the chosen run, and store the result for the next run of the page.

    Args:
        command: Of ``ORDERS``.
        author: Who starts it.
        keys: Slide keys of the run's catalogue, or a folder of the run.
    """

    def started() -> str:
        run = state.run_folder()
        given = list(keys)
        if ORDERS[command].takes == "slides":
            slides = tiles.catalogue(run).slides
            if gone := [key for key in keys if key not in slides]:
                raise CytosegError(f"{', '.join(gone[:5])}: no longer among the slides of the recipe. Choose others.")
            given = [str(slides[key].path) for key in keys]
        number = start_on_run(_place(), command, author=author, base=state.base_folder(), keys=keys, given=given)
        return f"{ORDERS[command].title}: started as job {number}."

    _store_result(started)


def _store_result(do: Callable[[], str]) -> None:
    try:
        st.session_state["job said"] = ("success", state.plain(do()))
    except CytosegError as error:
        st.session_state["job said"] = ("error", state.error_text(error))


def show_result() -> None:
    """Show the result of the last button."""
    found = st.session_state["job shown"] = st.session_state.pop("job said", None)
    if found is not None:
        (st.success if found[0] == "success" else st.error)(found[1])


@st.fragment(run_every=LOOK_S)
def show(commands: Sequence[str] = tuple(ORDERS)) -> None:
    """Show the latest jobs of some commands of the chosen run, refreshed automatically."""
    shown = st.session_state.pop("job shown", None)  # in the run of the whole page, not when the list is refreshed
    place = _place()
    try:
        found = [job for job in jobs_of(place) if job.command in commands]
    except CytosegError as error:
        st.error(state.error_text(error))
        return
    over = tuple(job.id for job in found if job.is_over)
    before, st.session_state[f"jobs over {place}"] = st.session_state.get(f"jobs over {place}", over), over
    if before != over:  # the rest of the page may be outdated
        st.session_state["job said"] = shown  # no one has seen it yet
        st.rerun()
    with st.container(key="steady-jobs"):
        for job in found[:_SHOWN]:
            _card(place, job)
        if not found:
            st.caption("Nothing has been started from here yet.")


def _card(place: JobPlace, job: Job) -> None:
    with st.container(border=True):
        given = f": {', '.join(job.given[:5])}{' ...' if len(job.given) > 5 else ''}" if job.given else ""
        title = ORDERS[job.command].title if job.command in ORDERS else job.command
        icon = ICONS.get(job.state, "block")
        st.markdown(f":material/{icon}: **{job.id}. {state.plain(title + given)}**: {job.state}")
        st.caption(state.plain(_when(job)))
        _how_far(job)
        _buttons(place, job)
        with st.expander("Log", expanded=False):
            st.code(log_tail(place, job.id) or _no_log(place, job), language=None, height=220)


def _place() -> JobPlace:
    return JobPlace(state.run_folder(), state.log_url())


def _no_log(place: JobPlace, job: Job) -> str:
    return "Nothing was printed yet." if job.machine == place.machine else f"Its log is on {job.machine}."


def _when(job: Job) -> str:
    parts = [f"Started by {job.author}, {time_text(job.created)}"]
    parts += [f"on {job.machine}"] if job.machine else []
    parts += [f"began {time_text(job.started)}"] if job.started else []
    parts += [f"ended {time_text(job.ended)}"] if job.ended else []
    return "; ".join(parts)


def _how_far(job: Job) -> None:
    if job.state in (FAILED, LOST):
        st.error(state.error_text(job.said or "It ended without a message. The log may say more."))
    elif job.state == SILENT:
        st.warning(state.error_text(job.said))
    elif job.state == RUNNING:
        far = f"{job.what}: {job.done} of {job.total}" if job.total else "Getting ready"
        left = f", about {job.time_left} to go" if job.time_left else ""
        st.progress(min(1.0, job.done / job.total) if job.total else 0.0, state.plain(far + left))
    elif job.state == WAITING:
        st.caption("Waiting for earlier jobs: one at a time uses the machine.")
    if job.state in NEXT and job.command in ORDERS:
        st.caption(NEXT[job.state])


def _buttons(place: JobPlace, job: Job) -> None:
    if not job.is_over and job.state != SILENT:
        cancel = partial(_cancel, place, job.id)
        st.button(
            "Cancel",
            key=f"cancel {job.id}",
            on_click=_store_result,
            args=(cancel,),
            help="Ends it; finished work is kept.",
        )
    elif job.command in ORDERS:
        again = "Run again" if job.state == FINISHED else "Resume"
        author = str(st.session_state.get("reviewer", ""))
        told = "Finished work is not repeated." if author else "Type your name first."
        st.button(
            again,
            key=f"again {job.id}",
            on_click=start,
            args=(job.command, author, job.given),
            disabled=not author,
            help=told,
        )


def _cancel(place: JobPlace, number: int) -> str:
    return f"Job {number} is being cancelled." if cancel_job(place, number) else f"Job {number} has ended already."
