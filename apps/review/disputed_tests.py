"""Test crops that people corrected or judged differently, and the decisions of a third person."""

from collections.abc import Sequence
from dataclasses import dataclass

import conflict_view
import crop_choice
import pandas as pd
import people
import reviews
import state
import streamlit as st
import widgets

from cytoseg.classes import ClassList
from cytoseg.errors import CytosegError
from cytoseg.evaluation.run_folder import time_text
from cytoseg.labels.corrections import corrections_folder
from cytoseg.labels.reviewer_names import clean_comment
from cytoseg.metrics.results import CropScores, Evaluation, share_text
from cytoseg.review.append_only import log_of
from cytoseg.review.conflicts import Conflict
from cytoseg.review.correction_conflicts import find_correction_conflicts, resolve_correction
from cytoseg.review.inter_rater import Pair
from cytoseg.review.judgement_conflicts import (
    VERDICTS,
    Entry,
    JudgementConflict,
    Verdict,
    find_judgement_conflicts,
    judgement_resolution_csv,
    may_judge,
    resolve_judgements,
)
from cytoseg.review.resolutions import Decision, resolved_pairs
from cytoseg.review.resolutions import Entry as Resolved
from cytoseg.review.review_log import Entry as Judgement
from cytoseg.review.run_name import named_in_log
from cytoseg.viewer.deep_zoom import jpeg

SIDE_PX = 480
"""Crops are enlarged by a whole factor up to this width."""


@dataclass(frozen=True)
class Judged:
    """The reviewers' log of a run, and how conflicts in it were resolved."""

    entries: Sequence[Judgement]
    resolved: Sequence[Entry]


def show(classes: ClassList, author: str, done: Sequence[Resolved], judged: Judged) -> None:
    """Show the open conflicts on the test crops of the chosen run, if it has been evaluated."""
    found = state.guarded(lambda: state.evaluation_of(state.run_folder()))
    crops = {} if found is None else {crop.crop: crop for crop in found.crops}
    if found is None or not crops or found.class_names != classes.names:
        return
    _corrections(crops, classes, author, done)
    _judgements(found, author, judged)


def _corrections(crops: dict[str, CropScores], classes: ClassList, author: str, done: Sequence[Resolved]) -> None:
    slides = {name: crop.slide for name, crop in crops.items()}
    folder = corrections_folder(state.run_folder())
    found, problems = find_correction_conflicts(folder, slides, classes, resolved_pairs(done))
    for problem in problems[:3]:
        st.warning(state.error_text(problem), icon=":material/warning:")
    st.subheader(f"Corrected test crops in conflict ({len(found)})")
    if not found:
        st.caption("No two people have corrected a test crop differently.")
        return
    one = conflict_view.choose(found, key="correction conflict")
    conflict_view.show(classes, one)
    conflict_view.show_decisions(
        one, author, lambda conflict, said: _decide(crops[conflict.crop], classes, conflict, said)
    )


def _decide(crop: CropScores, classes: ClassList, conflict: Conflict, said: Decision) -> str:
    """Make one person's correction the newest.

    Raises:
        CytosegError: If the decision cannot be recorded: the newest correction is unchanged then.
    """
    run = state.run_folder()
    log, name = log_of(run, state.log_url()), named_in_log(run)
    saved = resolve_correction(log, name, conflict, said, classes=classes, origin=reviews.origin_of(crop))
    if said.choice.startswith("drawn"):
        work = f"{run.resolve().name}/{crop.crop}"
        begin = {f"begin {work}": "Latest correction", f"pinned {work}": saved}
        st.session_state.update({"crop": crop.crop, conflict_view.OPEN: "pages/correct.py"} | begin)
    told = f"{crop.crop}: resolved by {said.author}. The newest correction is this one now; import it to use it."
    return state.plain(told)


def _judgements(found: Evaluation, author: str, judged: Judged) -> None:
    conflicts = find_judgement_conflicts(judged.entries, judged.resolved)
    st.subheader(f"Accepted and rejected ({len(conflicts)})")
    if not conflicts:
        st.caption("No test crop is accepted by one person and rejected by another.")
        return
    names = [one.crop for one in conflicts]
    one = conflicts[names.index(state.select(st.container(), "Crop in conflict", names, key="judged differently"))]
    left, right = st.columns(2, gap="medium")
    with left:
        _picture(found, one.crop)
    with right:
        rows = [
            (said.author, said.action, time_text(said.time), said.comment) for said in (*one.accepted, *one.rejected)
        ]
        st.dataframe(pd.DataFrame(rows, columns=["Who", "What", "When", "Comment"]), hide_index=True)
        _offer(one, author)


def _picture(found: Evaluation, name: str) -> None:
    crop = next((crop for crop in found.crops if crop.crop == name), None)
    if crop is None:
        st.caption("The evaluation no longer holds this crop.")
        return
    folder, ids = state.run_folder() / "evaluation" / crop.folder, range(len(found.class_names))
    try:
        picture = crop_choice.painted(
            folder, found, layer="Prediction", shown=ids, opacity=0.45, enlarged_to_px=SIDE_PX
        )
    except CytosegError as error:
        st.warning(state.error_text(error), icon=":material/warning:")
        return
    widgets.show(st, jpeg(picture), caption="The prediction", alt=f"Prediction of {name}")
    widgets.legend(found.class_names, found.colours)


def _offer(conflict: JudgementConflict, author: str) -> None:
    may = may_judge(conflict, author)
    if author and not may:
        st.info("You have judged this crop. Ask a person who has not judged it.", icon=":material/info:")
    comment = f"comment on judgements of {conflict.crop}"
    widgets.type_in("Comment", "Added to your decision", key=comment, max_chars=500)
    with st.container(horizontal=True):
        for verdict, title, icon in zip(VERDICTS, ("Accept", "Reject"), ("check", "close"), strict=True):
            st.button(
                title,
                key=f"{verdict} by a third person",
                icon=f":material/{icon}:",
                on_click=_judge,
                args=(conflict, author, verdict, comment),
                disabled=not may,
                help=None if author else "Type your name first.",
            )


def _judge(conflict: JudgementConflict, author: str, verdict: Verdict, comment: str) -> None:
    run = state.run_folder()
    text = clean_comment(str(st.session_state.get(comment, "")))
    try:
        log = log_of(run, state.log_url())
        resolve_judgements(log, named_in_log(run), conflict, author=author, verdict=verdict, comment=text)
    except CytosegError as error:
        st.session_state[people.SAID] = ("error", state.error_text(error))
        return
    st.session_state.pop(comment, None)
    st.session_state[people.SAID] = ("success", state.plain(f"{conflict.crop}: {verdict}, decided by {author}."))


def agreement_table(pairs: Sequence[Pair]) -> pd.DataFrame:
    """Return a table of how often each two people gave the same verdict."""
    rows = [
        (
            f"{pair.first}, {pair.second}",
            len(pair.crops),
            "-" if pair.agreement.same is None else f"{100 * pair.agreement.same:.1f} %",
            share_text(pair.agreement.kappa),
        )
        for pair in pairs
    ]
    return pd.DataFrame(rows, columns=["People", "Crops", "Same verdict", "Cohen's kappa"])


def show_resolved(resolved: Sequence[Entry]) -> None:
    """Show how conflicts of judgements were resolved, the latest first."""
    if not resolved:
        return
    rows = [
        (time_text(one.time), one.author, one.crop, one.verdict, one.accepted_by, one.rejected_by, one.comment)
        for one in reversed(resolved)
    ]
    columns = ["When", "Who", "Crop", "Decision", "Accepted by", "Rejected by", "Comment"]
    st.dataframe(pd.DataFrame(rows, columns=columns), hide_index=True)
    widgets.offer_csv("Verdicts (CSV)", judgement_resolution_csv(resolved), what="verdicts")
