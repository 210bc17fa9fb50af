"""One conflict: both people's marks side by side, their agreement, and the choices of a third person."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import people
import reviews
import state
import streamlit as st
import widgets
from numpy.typing import NDArray

from cytoseg.classes import ClassList
from cytoseg.drawing.overlay import enlarge, enlarge_smoothly, outline, overlay
from cytoseg.drawing.pictures import read_rgb
from cytoseg.errors import CytosegError
from cytoseg.evaluation.run_folder import time_text
from cytoseg.labels.reviewer_names import clean_comment
from cytoseg.metrics.results import share_text
from cytoseg.review.conflicts import Conflict, Side, differing, may_resolve
from cytoseg.review.inter_rater import Pair
from cytoseg.review.resolutions import Choice, Decision
from cytoseg.viewer.deep_zoom import jpeg

SIDE_PX = 640
"""Crops are enlarged by a whole factor up to this width."""
OPEN = "open after a decision"
"""Key of the page that is opened after a decision to draw."""


def choose(found: Sequence[Conflict], *, key: str) -> Conflict:
    """List conflicts, the largest first, and offer a choice of one.

    Args:
        found: The conflicts; at least one.
        key: Streamlit key of the choice.
    """
    rows = [
        (
            one.crop,
            one.slide,
            ", ".join(side.person for side in one.sides),
            f"{one.disagreement:.1%}",
            one.agreement.pixels,
            share_text(one.agreement.kappa),
        )
        for one in found
    ]
    columns = ["Crop", "Slide", "People", "Differ", "Pixels marked by both", "Cohen's kappa"]
    st.dataframe(pd.DataFrame(rows, columns=columns), hide_index=True)
    titles = [f"{one.crop}: {' and '.join(side.person for side in one.sides)}" for one in found]
    return found[titles.index(state.select(st.container(), "Conflict, the largest first", titles, key=key))]


def show(classes: ClassList, conflict: Conflict) -> None:
    """Show both maps over the image, the differences outlined, and the numbers."""
    picture = state.guarded(lambda: read_rgb(conflict.picture))
    differs = differing(conflict)
    place = f"{conflict.picture.parent.name} {conflict.picture.stem}"
    for column, side in zip(st.columns(2, gap="medium"), conflict.sides, strict=True):
        caption = f"{side.person}, {time_text(side.time)}"
        painted = _painted(classes, picture, side, differs)
        where = column.container(key=f"whole-conflict {place} {side.person}")
        widgets.show(where, jpeg(painted), caption=state.plain(caption), alt=f"Marks of {side.person}")
    widgets.legend(classes.names, classes.colours)
    said = conflict.agreement
    st.caption(
        f"Outlined in white: {int(differs.sum()):,} of the {said.pixels:,} pixels that both marked have different "
        f"classes ({conflict.disagreement:.1%}). Hatched: not marked. Cohen's kappa is {share_text(said.kappa)}."
    )
    names = [side.person for side in conflict.sides]
    pair = Pair(names[0], names[1], (conflict.crop,), said)
    st.dataframe(reviews.agreement_table([pair], classes), hide_index=True)


def _painted(
    classes: ClassList, picture: NDArray[np.uint8], side: Side, differs: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    factor = max(1, SIDE_PX // picture.shape[1])
    large = overlay(enlarge_smoothly(picture, factor), enlarge(side.ids, factor), classes)
    return outline(large, enlarge(differs.astype(np.uint8), factor).astype(np.bool_))


def show_decisions(conflict: Conflict, author: str, decide: Callable[[Conflict, Decision], str]) -> None:
    """Offer the decisions to a third person, or say why there are none.

    Args:
        conflict: The conflict that is shown.
        author: The person at the page.
        decide: Carries out a decision, and returns the outcome as Markdown; may raise a CytosegError.
    """
    first, second = (side.person for side in conflict.sides)
    may = may_resolve(conflict, author)
    if author and not may:
        st.info(
            "You have marked this crop, and no one resolves their own conflict. Ask a person who has not marked it.",
            icon=":material/info:",
        )
    # Keys are part of the page: no path of this machine.
    place = f"{conflict.picture.parent.name} {conflict.picture.stem} {first} {second}"
    comment = f"comment on {place}"
    widgets.type_in("Comment", "Added to your decision", key=comment, max_chars=500)
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
                key=f"{choice} {place}",
                icon=f":material/{icon}:",
                on_click=_decide,
                args=(conflict, Decision(author, choice), comment, decide),
                disabled=not may,
                help=None if author else "Type your name first.",
            )


def _decide(conflict: Conflict, decision: Decision, comment: str, decide: Callable[[Conflict, Decision], str]) -> None:
    said = Decision(decision.author, decision.choice, clean_comment(str(st.session_state.get(comment, ""))))
    try:
        told = decide(conflict, said)
    except CytosegError as error:
        st.session_state[people.SAID] = ("error", state.error_text(error))
        return
    st.session_state.pop(comment, None)
    st.session_state[people.SAID] = ("success", told)
