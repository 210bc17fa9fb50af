"""Jobs: start the run's commands and follow their progress."""

import jobs_list
import reviews
import state
import streamlit as st
import training

from cytoseg.errors import CytosegError
from cytoseg.jobs.job_commands import IMPORTED, LEARN_NORMAL, ORDERS
from cytoseg.recipe import recipe_of_run

HELP = (
    "A job is a piece of work, such as a training, that continues when you close the browser or the app ends. One job "
    "at a time uses the machine; the others wait."
)
ELSEWHERE = {
    "predict": "pages/predict.py",
    "anomaly": "pages/anomalies.py",
    "edit": "pages/annotate.py",
}
"""Pages on which what a command needs is chosen."""


def _offer(author: str) -> None:
    """Show a button per command; slides to predict and crops to redraw are chosen on separate pages."""
    for command, order in ORDERS.items():
        if command == LEARN_NORMAL or (command == "train-autoencoder" and not _is_latent()):
            continue
        if order.takes == "kind":
            training.show_training(author)
            continue
        with st.container(gap="xsmall"):
            keys: tuple[str, ...] = ()
            if order.takes == "folder":
                keys = _folder()
            if command in ELSEWHERE:
                if st.button(order.title, key=f"start {command}"):
                    st.switch_page(ELSEWHERE[command])
            else:
                st.button(
                    order.title,
                    key=f"start {command}",
                    on_click=jobs_list.start,
                    args=(command, author, keys),
                    disabled=not author or (order.takes == "folder" and not keys),
                    help=None if author else "Type your name first.",
                )
            st.caption(order.told)


def _is_latent() -> bool:
    """Return whether the run works in a latent space, and so needs an autoencoder."""
    try:
        return recipe_of_run(state.run_folder()).space.is_latent
    except CytosegError:  # a start says what is wrong with it
        return False


def _folder() -> tuple[str, ...]:
    there = [name for name in IMPORTED if (state.run_folder() / name).is_dir()]
    if not there:
        st.caption("No folder of this run holds annotations yet.")
        state.link_to("pages/annotate.py")
        return ()
    chosen = st.selectbox(
        "Folder of the run", there, width=220, key=f"imported of {state.run_folder()}", persist_state="session"
    )
    return (chosen,)


def main() -> None:
    state.begin()
    st.title("Jobs", help=HELP)
    jobs_list.show_result()
    left, right = st.columns([1, 1.3], gap="medium")
    with left:
        author = reviews.reviewer()
        _offer(author)
    with right:
        jobs_list.show()


main()
