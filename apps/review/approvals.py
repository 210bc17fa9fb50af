"""Signing off predicted slides: verdicts and buttons."""

from collections.abc import Mapping
from pathlib import Path

import reviews
import state
import streamlit as st
import widgets

from cytoseg.errors import CytosegError
from cytoseg.evaluation.run_folder import time_text
from cytoseg.labels.reviewer_names import clean_comment
from cytoseg.predict.sign_off_file import SignedOff, bundle_of, is_outdated, write_signed_off
from cytoseg.review.append_only import log_of
from cytoseg.review.run_name import named_in_log
from cytoseg.review.slide_approvals import (
    VERDICTS,
    Entry,
    SignOff,
    Verdict,
    latest,
    read_sign_offs,
    sign_off,
    sign_off_csv,
)

TITLES: Mapping[Verdict, tuple[str, str]] = {
    "approved": ("Approve", "check"),
    "rejected": ("Reject", "close"),
    "needs labels": ("Needs labels", "brush"),
}


ANOTHER_MODEL = "Predicted with another model than the run has now. Predict the slide again to use the present one."


def sign_offs_of_run(run: Path) -> list[Entry]:
    """Read the sign-offs of a run, oldest first.

    Raises:
        CytosegError: If the log is damaged or cannot be reached.
    """
    shared = {} if state.log_url() is None else {"run": reviews.name_of(run)}
    return read_sign_offs(log_of(run, state.log_url()), **shared)


def verdicts(run: Path) -> dict[str, Entry]:
    """Return the latest sign-off of each slide; empty, with a message on the page, if the log cannot be read."""
    try:
        return latest(sign_offs_of_run(run))
    except CytosegError as error:
        st.warning(reviews.sentence(state.error_text(error)), icon=":material/warning:")
        return {}


def sign_off_text(entry: Entry | None, prediction: Path) -> str:
    """Describe the latest sign-off of a slide, and whether it has been predicted again since."""
    if entry is None:
        return "not signed off"
    outdated = "; predicted again since" if is_outdated(entry.bundle, bundle_of(prediction)) else ""
    comment = f" ({entry.comment})" if entry.comment else ""
    return f"{entry.verdict} by {entry.author}, {time_text(entry.time)}{comment}{outdated}"


def show_sign_off(run: Path, key: str, prediction: Path) -> None:
    """Offer to sign off a predicted slide."""
    st.subheader("Sign-off")
    if (said := st.session_state.pop("signed off", None)) is not None:
        (st.success if said[0] else st.error)(said[1])
    st.markdown(state.plain(sign_off_text(verdicts(run).get(key), prediction)))
    author = reviews.reviewer()
    widgets.type_in("Comment", "Added to your next action", key=f"sign-off {run.resolve().name} {key}", max_chars=500)
    with st.container(horizontal=True):
        for verdict in VERDICTS:
            title, icon = TITLES[verdict]
            st.button(
                title,
                key=f"{verdict} {key}",
                icon=f":material/{icon}:",
                on_click=_sign_off_slide,
                args=(run, key, prediction, author, verdict),
                disabled=not author,
                help=None if author else "Type your name first.",
            )


def _sign_off_slide(run: Path, key: str, prediction: Path, author: str, verdict: Verdict) -> None:
    typed = f"sign-off {run.resolve().name} {key}"
    comment = clean_comment(str(st.session_state.get(typed, "")))
    try:
        said = SignOff(author, named_in_log(run), key, verdict, comment, bundle_of(prediction))
        sign_off(log_of(run, state.log_url()), said)
        write_beside({key: prediction}, latest(sign_offs_of_run(run)))
    except CytosegError as error:
        st.session_state["signed off"] = (False, state.error_text(error))
        return
    st.session_state.pop(typed, None)
    st.session_state["signed off"] = (True, state.plain(f"{key}: {verdict} by {author}."))


def write_beside(predictions: Mapping[str, Path], said: Mapping[str, Entry]) -> None:
    """Write the latest sign-offs beside the results of their slides, where they are not yet.

    Args:
        predictions: Folder of the results by slide key.
        said: The latest sign-off by slide key.

    Raises:
        CytosegError: If a folder cannot be written.
    """
    for key, prediction in predictions.items():
        if (entry := said.get(key)) is not None:
            found = SignedOff(key, entry.verdict, entry.author, entry.time, entry.comment, entry.bundle)
            write_signed_off(prediction, found)


def download(run: Path, bundles: Mapping[str, str]) -> None:
    """Offer all sign-offs as a CSV file."""
    try:
        entries = sign_offs_of_run(run)
    except CytosegError:
        return  # reported where the verdicts are shown
    if entries:
        widgets.offer_csv("Sign-offs (CSV)", sign_off_csv(entries, bundles), what="sign-offs")
