"""One conflict: both people's marks side by side, their agreement, and the third person's decision."""

import annotate_state
import numpy as np
import people
import reviews
import state
import streamlit as st
import widgets
from numpy.typing import NDArray

from cytoseg.drawing.overlay import enlarge, enlarge_smoothly, outline, overlay
from cytoseg.drawing.pictures import read_rgb
from cytoseg.errors import CytosegError
from cytoseg.evaluation.run_folder import time_text
from cytoseg.labels.reviewer_names import clean_comment
from cytoseg.metrics.results import share_text
from cytoseg.review.append_only import log_of
from cytoseg.review.conflicts import Conflict, Side, differing, may_resolve
from cytoseg.review.inter_rater import Pair
from cytoseg.review.resolutions import Choice, Decision, resolve
from cytoseg.viewer.deep_zoom import jpeg
from cytoseg.workflows.annotating import Annotating, CropFile

SIDE_PX = 640
"""Crops are enlarged by a whole factor up to this width."""
COMMENT = "comment on a conflict"
OPEN = "open in annotate"
"""Key of the crop that is opened on the page Annotate after a decision to draw."""


def show(annotating: Annotating, conflict: Conflict) -> None:
    """Show both maps over the picture, the differences outlined, and the numbers."""
    picture = state.guarded(lambda: read_rgb(conflict.picture))
    differs = differing(conflict)
    for column, side in zip(st.columns(2, gap="medium"), conflict.sides, strict=True):
        caption = f"{side.person}, {time_text(side.time)}"
        painted = _painted(annotating, picture, side, differs)
        widgets.show(column, jpeg(painted), caption=state.plain(caption), alt=f"Marks of {side.person}")
    widgets.legend(annotating.classes.names, annotating.classes.colours)
    said = conflict.agreement
    st.caption(
        f"Outlined in white: {int(differs.sum()):,} of the {said.pixels:,} pixels that both marked have different "
        f"classes ({conflict.disagreement:.1%}). Hatched: not marked. Cohen's kappa is {share_text(said.kappa)}."
    )
    names = [side.person for side in conflict.sides]
    pair = Pair(names[0], names[1], (conflict.crop,), said)
    st.dataframe(reviews.agreement_table([pair], annotating.classes), hide_index=True)


def _painted(
    annotating: Annotating, picture: NDArray[np.uint8], side: Side, differs: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    factor = max(1, SIDE_PX // picture.shape[1])
    large = overlay(enlarge_smoothly(picture, factor), enlarge(side.ids, factor), annotating.classes)
    return outline(large, enlarge(differs.astype(np.uint8), factor).astype(np.bool_))


def offer(annotating: Annotating, crop: CropFile, conflict: Conflict, author: str) -> None:
    """Offer the decisions to a third person, or say why there are none."""
    first, second = (side.person for side in conflict.sides)
    may = may_resolve(conflict, author)
    if author and not may:
        st.info(
            "You have marked this crop, and no one resolves their own conflict. Ask a person who has not marked it.",
            icon=":material/info:",
        )
    widgets.type_in("Comment", "Added to your decision", key=COMMENT, max_chars=500)
    choices: dict[Choice, tuple[str, str]] = {
        "first": (f"Take {first}'s", "check"),
        "second": (f"Take {second}'s", "check"),
        "drawn from first": (f"Draw from {first}'s", "brush"),
        "drawn from second": (f"Draw from {second}'s", "brush"),
    }
    with st.container(horizontal=True):
        for choice, (title, icon) in choices.items():
            st.button(
                state.plain(title),
                key=f"{choice} {conflict.crop} {first} {second}",
                icon=f":material/{icon}:",
                on_click=_decide,
                args=(annotating, crop, conflict, Decision(author, choice)),
                disabled=not may,
                help=None if author else "Type your name first.",
            )


def _decide(annotating: Annotating, crop: CropFile, conflict: Conflict, decision: Decision) -> None:
    run = annotating.run
    comment = clean_comment(str(st.session_state.get(COMMENT, "")))
    said = Decision(decision.author, decision.choice, comment)
    try:
        resolve(log_of(run, state.log_url()), reviews.name_of(run), conflict, said, annotating.classes)
    except CytosegError as error:
        st.session_state[people.SAID] = ("error", state.told(error))
        return
    annotate_state.forget(crop)
    st.session_state.pop(COMMENT, None)
    if said.choice.startswith("drawn"):
        st.session_state["crop to annotate"] = st.session_state[OPEN] = conflict.crop
    told = f"{conflict.crop}: resolved by {said.author}."
    try:
        annotating.take_in(conflict.picture.with_suffix(".json"))
    except CytosegError as error:
        st.session_state[people.SAID] = ("error", state.plain(f"{told} Not imported: ") + state.told(error))
        return
    st.session_state[people.SAID] = ("success", state.plain(f"{told} Training uses these marks now."))
