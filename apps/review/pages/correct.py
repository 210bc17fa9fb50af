"""Correct: review test crops and correct their annotations."""

from zlib import crc32

import crop_choice
import editor
import numpy as np
import reviews
import state
import streamlit as st
import widgets
from numpy.typing import NDArray

from cytoseg.classes import ClassList
from cytoseg.drawing.pictures import read_map, read_rgb
from cytoseg.errors import CytosegError
from cytoseg.evaluation.run_folder import time_text
from cytoseg.labels.corrections import (
    FROM_PREDICTION,
    OF_PREDICTION,
    SavedCorrection,
    corrections_folder,
    find_corrections,
    is_from_prediction,
    is_resolution,
    read_correction,
)
from cytoseg.labels.reviewer_names import same_person
from cytoseg.metrics.results import CropScores, share_text
from cytoseg.review.review_log import Action

Ids = NDArray[np.uint8]
PREDICTION, ANNOTATION, LATEST = "Prediction", "Annotation", "Latest correction"
STARTED = {PREDICTION: FROM_PREDICTION, ANNOTATION: "annotation", LATEST: "correction"}
PURPOSE = """
A correction is stored next to the original, under your name, and replaces nothing by itself. To use it, choose the
folder `review/corrections` on the page Jobs and press *Import annotations*, then *Evaluate*; of several corrections of
a crop the newest is used.

These are **test crops**, and corrected ones stay test crops: a slide is used either for training or for testing. So a
correction changes the test set, never the training. You start from the annotation. If you choose to start from the
prediction, untouched pixels agree with the model, and the scores are optimistic: such crops are counted and marked
where scores are shown; `labels.score_corrected=false` excludes them.
"""


def _key(what: str, crop: CropScores) -> str:
    return f"{what} {state.run_folder().resolve().name}/{crop.crop}"


def _begin(crop: CropScores, found: list[SavedCorrection]) -> tuple[str, SavedCorrection | None]:
    """Offer a choice of the starting point, which is kept like the work."""
    key, box, pin = (_key(what, crop) for what in ("begin", "begin box", "pinned"))
    options = [PREDICTION, ANNOTATION, *([LATEST] if found else [])]
    kept = st.session_state.get(key)
    state.show_in(box, kept if kept in options else ANNOTATION)

    def keep() -> None:
        st.session_state[key] = st.session_state[box]
        st.session_state.pop(pin, None)

    kind = str(st.segmented_control("Begin from", options, required=True, key=box, on_change=keep))
    if kind != LATEST:
        return kind, None
    # Pinned until the next choice: a correction saved meanwhile must not change the canvas.
    pinned = st.session_state.setdefault(pin, found[-1])
    assert isinstance(pinned, SavedCorrection)
    st.caption(f"By {state.plain(pinned.correction.author)}, {time_text(pinned.correction.time)}.")
    return kind, pinned


def _ids(kind: str, crop: CropScores, pinned: SavedCorrection | None, classes: ClassList) -> tuple[str, Ids]:
    """Read the starting point; return its file name and ids."""
    if pinned is not None:
        return pinned.path.name, read_correction(pinned.path, classes)
    name = "prediction.png" if kind == PREDICTION else "truth.png"
    return name, read_map(state.run_folder() / "evaluation" / crop.folder / name)


def _started_from(kind: str, pinned: SavedCorrection | None, author: str) -> str:
    """Return the starting point; an origin in a prediction is kept, and who draws on their own resolution resolves."""
    if pinned is not None and is_resolution(pinned.correction) and same_person(pinned.correction.author, author):
        return pinned.correction.started_from
    return OF_PREDICTION if pinned is not None and is_from_prediction(pinned.correction) else STARTED[kind]


def _comment(crop: CropScores) -> str:
    return str(st.session_state.get(_key("comment", crop), "")).strip()


def _say(crop: CropScores, author: str) -> None:
    """Offer to accept, reject and comment; a typed comment stays with its crop."""
    widgets.type_in("Comment", "Added to your next action", key=_key("comment", crop), max_chars=2000)
    comment = _comment(crop)
    first = None if author else "Type your name first."
    right, wrong = (
        first or "The prediction is correct.",
        first or "The prediction is wrong; a comment says why.",
    )
    with st.container(horizontal=True):
        accept = st.button("Accept", icon=":material/check:", shortcut="A", disabled=not author, help=right)
        reject = st.button("Reject", icon=":material/close:", disabled=not author, help=wrong)
        plain = st.button("Comment", icon=":material/comment:", disabled=not author or not comment, help=first)
    actions: dict[Action, bool] = {"accepted": accept, "rejected": reject, "commented": plain}
    for action, pressed in actions.items():
        if pressed:
            state.guarded(lambda: reviews.log(crop, author, action, comment=comment))  # noqa: B023 # called at once
            _start_anew(crop, f"{action} by {author}.")


def _start_anew(crop: CropScores, said: str) -> None:
    st.session_state["said"] = f"{crop.crop}: {said}"
    st.session_state.pop(_key("comment", crop), None)
    st.rerun()


def _work(crop: CropScores, classes: ClassList) -> None:
    found, problems = find_corrections(corrections_folder(state.run_folder()), crop.crop)
    large, side = st.columns([1.75, 1], gap="medium")
    with side:
        author = reviews.reviewer()
        kind, pinned = _begin(crop, found)
        for problem in problems[:3]:
            st.warning(f"A correction of this crop cannot be read: {state.plain(problem)}")
        st.caption(f"Slide {state.plain(crop.slide)}, mean IoU {share_text(crop.miou)} against the annotation")
        _say(crop, author)
        with st.expander("What a correction is for"):
            st.markdown(PURPOSE)
    with large:
        picture = read_rgb(state.run_folder() / "evaluation" / crop.folder / "image.png")
        name, ids = _ids(kind, crop, pinned, classes)
        if ids.shape != picture.shape[:2]:
            raise CytosegError(f"{crop.crop}: {name} differs in size from the image. Evaluate the run again.")
        token = f"{state.run_folder().resolve().name}/{crop.crop}/{name}/{crc32(ids.tobytes())}"
        done = st.session_state.pop("saved token", "")
        answer = editor.edit(picture, ids, classes, token=token, saved=done, may_save=bool(author))
        if answer is not None and author:
            saved = reviews.save(
                crop, author, _started_from(kind, pinned, author), picture=picture, label_map=answer, classes=classes
            )
            # The browser may now drop the work, even if the log cannot be written.
            st.session_state.update({"saved token": token, _key("begin", crop): LATEST, _key("pinned", crop): saved})
            reviews.log(crop, author, "corrected", comment=_comment(crop), saved=saved)
            _start_anew(crop, "your correction is saved.")


def main() -> None:
    state.begin(max_width=state.PICTURE_WIDTH)
    st.title("Correct")
    if "said" in st.session_state:
        st.toast(state.plain(st.session_state.pop("said")), icon=":material/check:")
    found = state.evaluation()
    if not found.crops:
        state.missing("The evaluation of this run holds no crop.", "cytoseg evaluate RECIPE")
        st.stop()
    classes = reviews.classes_of(found)
    crop = crop_choice.choose_crop(crop_choice.ordered_crops(found))
    state.guarded(lambda: _work(crop, classes))
    reviews.show_log(crop)
    reviews.show_agreement(crop, classes)


main()
