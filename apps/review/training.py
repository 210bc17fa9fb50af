"""Starting the training of the run's model, of a chosen kind."""

import jobs_list
import state
import streamlit as st

from cytoseg.errors import CytosegError
from cytoseg.jobs.job_commands import KINDS
from cytoseg.recipe import recipe_of_run

COMMAND = "train-interpreter"
HELP = "Learns from all marked crops except those for testing. Slides are then predicted with the kind that you train."


def show_training(author: str) -> None:
    """Offer to train, with a choice of the kind and what it costs."""
    own = _own_kind()
    kinds = list(KINDS) if own in KINDS else [own, *KINDS]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Kind of model",
            kinds,
            index=kinds.index(own),
            format_func=_title,
            width=160,
            key=f"kind {state.run_folder()}",
            persist_state="session",
        )
        st.button(
            "Train",
            key=f"start {COMMAND}",
            type="primary",
            icon=":material/model_training:",
            on_click=jobs_list.start,
            args=(COMMAND, author, () if chosen == own else (chosen,)),
            disabled=not author,
            help=HELP if author else "Type your name first.",
        )
    if chosen in KINDS:
        st.caption(KINDS[chosen][1])


def _own_kind() -> str:
    """Return the kind in the run's recipe, or the usual one if it cannot be read: a start says what is wrong."""
    try:
        return recipe_of_run(state.run_folder()).interpreter.kind
    except CytosegError:
        return next(iter(KINDS))


def _title(kind: str) -> str:
    return KINDS[kind][0] if kind in KINDS else kind
