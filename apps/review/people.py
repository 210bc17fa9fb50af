"""Who annotates which crop: assignments, and whose marks are shown."""

from collections.abc import Sequence
from pathlib import Path

import annotate_state
import reviews
import state
import streamlit as st

from cytoseg.errors import CytosegError
from cytoseg.labels.readings import place_of
from cytoseg.labels.reviewer_names import same_person
from cytoseg.review.append_only import log_of
from cytoseg.review.assignments import Assignment, Entry, State, assign, assignees, read_assignments, take
from cytoseg.review.run_name import named_in_log
from cytoseg.workflows.annotating import Annotating, CropFile

SAID = "job said"
"""Key of a message that the pages show once, with its kind."""


def assignments(run: Path) -> list[Entry]:
    """Read the assignments of a run, oldest first; empty, with a message on the page, if the log cannot be read."""
    shared = {} if state.log_url() is None else {"run": reviews.name_of(run)}
    try:
        return read_assignments(log_of(run, state.log_url()), **shared)
    except CytosegError as error:
        st.warning(reviews.sentence(state.error_text(error)), icon=":material/warning:")
        return []


def assigned(run: Path) -> dict[str, tuple[str, ...]]:
    """Return the people to whom each crop of a run is assigned."""
    return assignees(assignments(run))


def offer_taking(run: Path, crop: CropFile, author: str, people: Sequence[str]) -> None:
    """Offer a free crop to the person, or to give back one of the person's."""
    mine = [name for name in people if same_person(name, author)]
    if mine:
        args = (run, [crop.path.stem], author, mine[0], "withdrawn")
        st.button(
            "Give back",
            icon=":material/person_remove:",
            on_click=record_assignments,
            args=args,
            help="Others may take it then.",
        )
    elif not people:
        told = "Assigns this crop to you." if author else "Type your name first."
        st.button(
            "Assign to me",
            icon=":material/person_add:",
            on_click=_take,
            args=(run, crop.path.stem, author),
            disabled=not author,
            help=told,
        )


def record_assignments(run: Path, crops: Sequence[str], author: str, person: str, word: State) -> None:
    """Assign crops to a person, or withdraw them."""
    try:
        log, name = log_of(run, state.log_url()), named_in_log(run)
        for crop in crops:
            assign(log, Assignment(author, name, crop, person, word))
    except CytosegError as error:
        st.session_state[SAID] = ("error", state.error_text(error))


def _take(run: Path, crop: str, author: str) -> None:
    try:
        take(log_of(run, state.log_url()), Assignment(author, named_in_log(run), crop, author))
    except CytosegError as error:
        st.session_state[SAID] = ("error", state.error_text(error))


def show_whose_marks(annotating: Annotating, crop: CropFile, author: str) -> None:
    """Say whose marks are being edited, and offer those of the other person if the person has none yet."""
    place = place_of(crop.path, author)
    if crop.drawn is None or place == crop.path:
        return
    owner = state.plain(crop.drawn.author)
    st.info(
        f"Training uses the marks of {owner}. Yours are kept beside them; where you differ, a third person decides on "
        "the page Two people.",
        icon=":material/group:",
    )
    if not place.exists():
        args = (annotating, crop, author)
        st.button(f"Start from the marks of {owner}", icon=":material/content_copy:", on_click=_copy, args=args)


def _copy(annotating: Annotating, crop: CropFile, author: str) -> None:
    try:
        annotating.save(crop, author, annotating.open(crop)[1].ids)
    except CytosegError as error:
        st.session_state[SAID] = ("error", state.error_text(error))
        return
    annotate_state.forget(crop)
