"""State of the crop being annotated: strokes, saves and live results."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from zlib import crc32

import editor
import numpy as np
import state
import streamlit as st
from numpy.typing import NDArray

from cytoseg.classes import IGNORE
from cytoseg.drawing.overlay import class_veil, disagreement_veil
from cytoseg.errors import CytosegError, LabelError
from cytoseg.interpreter.live import LiveView
from cytoseg.labels.drawn_marks import Drawn, drawn_of
from cytoseg.workflows.annotating import Annotating, CropFile

MOST_NATS = 0.7
"""Upper end of the disagreement colours: an ensemble split over two classes."""


@dataclass
class Work:
    """A crop being drawn on.

    Attributes:
        crop: The crop.
        picture: (H, W, 3) uint8 RGB.
        begun: (H, W) uint8, ids when it was opened.
        ids: Ids after the last saved stroke.
        proposed: Ids of a proposal, or None.
        known: Who saved it last, as this page knows.
        token: Identifies this work in the browser.
        saved: Number of the last saved stroke.
        imported: Number of the last imported stroke.
        view: Live result with the ids it was computed from; None before the first one.
    """

    crop: CropFile
    picture: NDArray[np.uint8]
    begun: NDArray[np.uint8]
    ids: NDArray[np.uint8]
    proposed: NDArray[np.uint8] | None
    known: Drawn | None
    token: str
    saved: int = 0
    imported: int = 0
    view: tuple[int, LiveView] | None = None


def of_run(run: Path) -> Annotating:
    """Return the annotation backend of a run, cached per version of its recipe and network.

    Raises:
        CytosegError: If its recipe is missing or cannot be read.
    """
    recipe = run / "recipe.yaml"
    if not recipe.is_file():
        raise CytosegError("recipe.yaml: the run holds no recipe. Run a command again.")
    network = run / "ddpm"
    return _loaded(run.resolve(), recipe.stat().st_mtime_ns, network.stat().st_mtime_ns if network.exists() else 0)


# Networks and slides stay open, so only a few runs are cached.
@lru_cache(maxsize=2)
def _loaded(run: Path, recipe_ns: int, network_ns: int) -> Annotating:
    return Annotating(run)


def work_on(annotating: Annotating, crop: CropFile) -> Work:
    """Return the work on a crop, opening it on first use.

    Raises:
        CytosegError: If the crop or its marks are damaged.
    """
    key = f"work {crop.path}"
    kept = st.session_state.get(key)
    if not isinstance(kept, Work):
        picture, marks = annotating.open(crop)
        token = f"{annotating.run.name}/{crop.folder}/{crop.path.stem}/{crc32(marks.ids.tobytes())}"
        kept = Work(crop, picture, marks.ids, marks.ids, marks.proposed, marks.drawn, token)
        st.session_state[key] = kept
    kept.crop = crop  # its slide may have become a test slide
    return kept


def forget(crop: CropFile) -> None:
    """Reload a crop when it is drawn next."""
    st.session_state.pop(f"work {crop.path}", None)


def keep(annotating: Annotating, work: Work, author: str) -> None:
    """Save new strokes, if any.

    Raises:
        LabelError: If it cannot be saved, or another person has saved the crop meanwhile: nothing is written then.
    """
    strokes = editor.strokes_of(work.token, work.begun.shape)
    if strokes is None or strokes.stroke <= work.saved or not author:
        return
    now = drawn_of(work.crop.path)
    if now is not None and now != work.known:
        raise LabelError(
            f"{work.crop.path.stem}: {now.author or 'somebody'} has saved other marks since you opened it, and yours "
            "are not saved. Press Reload to see theirs."
        )
    annotating.save(work.crop, author, strokes.ids)
    work.ids, work.saved, work.known = strokes.ids, strokes.stroke, drawn_of(work.crop.path)


def take_in(annotating: Annotating, work: Work) -> None:
    """Import new saved strokes, if any.

    Raises:
        LabelError: If they cannot be imported; the marks are saved nevertheless.
    """
    if work.imported < work.saved:
        stroke = work.saved
        annotating.take_in(work.crop.path.with_suffix(".json"))
        work.imported = stroke


def look(annotating: Annotating, work: Work) -> LiveView:
    """Return the live prediction of the crop, recomputed when the marks have changed.

    Raises:
        CytosegError: If too little is marked, or the run has no network.
    """
    stamp = crc32(work.ids.tobytes())
    if work.view is None or work.view[0] != stamp:
        work.view = stamp, annotating.view(work.crop, work.picture, work.ids)
    return work.view[1]


def layers(annotating: Annotating, seen: LiveView) -> Sequence[editor.Layer]:
    """Colour the live results as overlays."""
    classes = annotating.classes
    clear = IGNORE if classes.fill is None else classes.fill_id
    return (
        editor.Layer("classes", "Class map", class_veil(seen.class_map, classes.colours, clear=clear)),
        editor.Layer("doubt", "Uncertainty", disagreement_veil(seen.disagreement, most=MOST_NATS)),
    )


def titles(crops: Sequence[CropFile]) -> list[str]:
    """Return list titles of crops: folder, test or not, and annotator."""
    return [_title(crop) for crop in crops]


def _title(crop: CropFile) -> str:
    said = [crop.path.stem, *(["queue"] if crop.folder == "queue" else []), *(["test"] if crop.is_test else [])]
    if crop.drawn is not None:
        said.append(f"marked by {crop.drawn.author}" if crop.drawn.author else "marked")
    return state.plain(", ".join(said)).replace("\\", "")
