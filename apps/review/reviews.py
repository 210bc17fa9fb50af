"""Reviews of a run's crops: log, corrections and agreement."""

from collections.abc import Sequence
from pathlib import Path

import name_cookie
import numpy as np
import pandas as pd
import state
import streamlit as st
import widgets
from numpy.typing import NDArray

from cytoseg.classes import ClassList
from cytoseg.errors import CytosegError
from cytoseg.evaluation.run_folder import read_classes, time_text
from cytoseg.formats.sidecar import Origin
from cytoseg.labels.corrections import Correction, SavedCorrection, corrections_folder, now, save_correction
from cytoseg.labels.original_annotation import read_original
from cytoseg.labels.reviewer_names import clean_comment, clean_name
from cytoseg.metrics.results import CropScores, Evaluation, share_text
from cytoseg.recipe import labels_of_run
from cytoseg.review.append_only import log_of
from cytoseg.review.inter_rater import Pair, compare_corrections
from cytoseg.review.review_log import Action, Entry, Judgement, add_entry, log_csv, read_entries
from cytoseg.review.run_name import name_in_log, named_in_log

KAPPA = (
    "Cohen's kappa counts only agreement beyond chance: two people who both call nearly everything background agree "
    "often without looking. 1 is full agreement, 0 is what chance alone would give. Same class is the share of the "
    "pixels that both gave the same class. IoU is the area that both gave a class, divided by the area that either "
    "gave it. Each person's latest correction counts, on the crops that both corrected."
)


def reviewer() -> str:
    """Ask for the reviewer's name, shared by all pages and kept over a reload; empty until typed."""
    if "reviewer" not in st.session_state:
        st.session_state["reviewer"] = name_cookie.kept_name()

    def keep() -> None:
        st.session_state["reviewer"] = clean_name(st.session_state["reviewer box"])

    state.show_in("reviewer box", st.session_state["reviewer"])
    st.text_input(
        "Your name",
        key="reviewer box",
        on_change=keep,
        max_chars=80,
        placeholder="For example Anna Smith",
        help="Recorded with everything you save here. Nothing is saved without it.",
    )
    name = str(st.session_state["reviewer"])
    name_cookie.keep_name(name)
    return name


def classes_of(found: Evaluation) -> ClassList:
    """Return the class list of the run, or show what to do and end the page."""
    classes = state.guarded(lambda: read_classes(state.run_folder()))
    if classes is None:
        state.missing("The model of this run no longer exists.", "cytoseg train-interpreter RECIPE")
        st.stop()
    if classes.names != found.class_names:
        state.missing("The model's classes differ from those of the evaluation.", "cytoseg evaluate RECIPE")
        st.stop()
    return classes


def origin_of(crop: CropScores) -> Origin:
    """Return the slide of a crop, and its region if the run's labels have it."""
    try:
        kept = read_original(labels_of_run(state.run_folder(), state.base_folder()), crop.crop).origin
    except CytosegError:  # damaged; the split needs only the slide
        kept = None
    return kept if kept is not None and kept.slide == crop.slide else Origin(crop.slide, None)


def save(
    crop: CropScores,
    author: str,
    started_from: str,
    *,
    picture: NDArray[np.uint8],
    label_map: NDArray[np.uint8],
    classes: ClassList,
) -> SavedCorrection:
    """Save a correction with the current time.

    Raises:
        CytosegError: If it cannot be saved.
    """
    correction = Correction(crop.crop, author, now(), started_from)
    folder, origin = corrections_folder(state.run_folder()), origin_of(crop)
    return save_correction(folder, correction, origin=origin, picture=picture, label_map=label_map, classes=classes)


def log(
    crop: CropScores, author: str, action: Action, *, comment: str = "", saved: SavedCorrection | None = None
) -> None:
    """Add a judgement of a crop to the log.

    Raises:
        CytosegError: If the log cannot be written; a saved correction is kept.
    """
    run = state.run_folder()
    file, sha256 = ("", "") if saved is None else (saved.path.relative_to(run).as_posix(), saved.sha256)
    what = (crop.crop, crop.slide, action, clean_comment(comment), file, sha256)
    try:
        add_entry(log_of(run, state.log_url()), Judgement(author, named_in_log(run), *what))
    except CytosegError as error:
        done = "nothing was logged" if saved is None else "the correction is saved, but not logged"
        raise CytosegError(f"{crop.crop}: {done}, for {error}") from error


def name_of(run: Path) -> str:
    """Return the name under which the log has a run, or show why it cannot be read and end the page."""
    return state.guarded(lambda: name_in_log(run))


def show_log(crop: CropScores) -> None:
    """Show the log of a crop and of all crops, or why it cannot be read."""
    run = state.run_folder()
    st.subheader("Log")
    try:
        # A log in the run folder contains only this run, under any former names.
        shared = {} if state.log_url() is None else {"run": name_of(run)}
        entries = read_entries(log_of(run, state.log_url()), **shared)
    except CytosegError as error:
        st.error(sentence(state.error_text(error)), icon=":material/error:")
        return
    if not entries:
        st.caption("No crop of this run has been accepted, rejected, corrected or commented on yet.")
        return
    here = [entry for entry in entries if entry.crop == crop.crop]
    mine, whole = st.tabs([f"This crop ({len(here)})", f"All crops ({len(entries)})"])
    mine.dataframe(_table(here), hide_index=True)
    whole.dataframe(_table(entries), hide_index=True)
    with whole:
        widgets.offer_csv("Download the log (CSV)", log_csv(entries), what="review-log")


def _table(entries: Sequence[Entry]) -> pd.DataFrame:
    rows = [
        (time_text(entry.time), entry.author, entry.action, entry.comment, entry.crop, entry.slide)
        for entry in reversed(entries)
    ]
    return pd.DataFrame(rows, columns=["When", "Who", "What", "Comment", "Crop", "Slide"])


def show_agreement(crop: CropScores, classes: ClassList) -> None:
    """Show the agreement of people who corrected this crop, and all crops."""
    folder = corrections_folder(state.run_folder())
    here, _ = compare_corrections(folder, classes, crop=crop.crop)
    pairs, problems = _compared(folder, classes, _stamp(folder))
    if not pairs and not problems:
        return
    st.subheader("Agreement")
    for problem in problems[:3]:
        st.warning(f"A correction is left out: {state.plain(problem)}")
    if not pairs:
        return
    mine, whole = st.tabs(["This crop", f"All crops ({len({name for pair in pairs for name in pair.crops})})"])
    if here:
        mine.dataframe(agreement_table(here, classes), hide_index=True)
    else:
        mine.caption("No two people have corrected this crop yet.")
    whole.dataframe(agreement_table(pairs, classes), hide_index=True)
    st.caption(KAPPA)


def _stamp(folder: Path) -> int:
    """Return a key that changes when a correction is added, edited or removed."""
    return hash(tuple(sorted((str(path), path.stat().st_mtime_ns) for path in folder.glob("*/*.json"))))


@st.cache_data(show_spinner=False, max_entries=16)
def _compared(folder: Path, classes: ClassList, stamp: int) -> tuple[list[Pair], list[str]]:
    return compare_corrections(folder, classes)


def agreement_table(pairs: Sequence[Pair], classes: ClassList) -> pd.DataFrame:
    """Return a table of the agreement of pairs of people."""
    rows = [
        {
            "People": f"{pair.first}, {pair.second}",
            "Crops": len(pair.crops),
            "Same class": "-" if pair.agreement.same is None else f"{100 * pair.agreement.same:.1f} %",
            "Cohen's kappa": share_text(pair.agreement.kappa),
            **{f"IoU {name}": share_text(v) for name, v in zip(classes.names, pair.agreement.iou, strict=True)},
        }
        for pair in pairs
    ]
    return pd.DataFrame(rows)


def sentence(text: str) -> str:
    """Capitalise the first letter."""
    return text[:1].upper() + text[1:]
