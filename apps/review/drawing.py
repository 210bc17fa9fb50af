"""What the page Annotate keeps of a crop in work: its strokes, what was saved of them, and what they give."""

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
from cytoseg.drawing.pictures import class_veil, disagreement_veil
from cytoseg.errors import CytosegError, LabelError
from cytoseg.interpreter.live import LiveView
from cytoseg.labels.drawn import Drawn, drawn_of
from cytoseg.workflows.annotating import Annotating, CropFile

MOST_NATS = 0.7
"""Disagreement that gets the last colour: that of an ensemble split over two classes."""


@dataclass
class Work:
    """A crop that is being drawn on.

    Attributes:
        crop: Which.
        picture: (H, W, 3) uint8 RGB.
        begun: (H, W) uint8, the ids as they were when it was opened.
        ids: The same after the last stroke that was saved.
        proposed: The same of a proposal, or None.
        known: Who had saved it last, as far as is known here.
        token: Names this work in the browser.
        saved: Number of the last stroke that was saved.
        imported: And of the last one that was imported.
        view: What the marks gave, with the ids it was made of; None before.
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
    """Return what annotates a run, loaded once for each time that its recipe or its network is written.

    Raises:
        CytosegError: If its recipe is missing or cannot be read.
    """
    recipe = run / "recipe.yaml"
    if not recipe.is_file():
        raise CytosegError("recipe.yaml: the run holds no recipe. Run a command again.")
    network = run / "ddpm"
    return _loaded(run.resolve(), recipe.stat().st_mtime_ns, network.stat().st_mtime_ns if network.exists() else 0)


# Networks and slides are held open: of few runs at a time.
@lru_cache(maxsize=2)
def _loaded(run: Path, recipe_ns: int, network_ns: int) -> Annotating:
    return Annotating(run)


def work_on(annotating: Annotating, crop: CropFile) -> Work:
    """Return the work on a crop, opened when it is asked for first.

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
    kept.crop = crop  # its slide may have become one to test on
    return kept


def forget(crop: CropFile) -> None:
    """Open a crop anew when it is drawn next."""
    st.session_state.pop(f"work {crop.path}", None)


def keep(annotating: Annotating, work: Work, author: str) -> None:
    """Save what was drawn since it was last saved, if anything.

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
            "are not saved. Press Load anew to see theirs."
        )
    annotating.save(work.crop, author, strokes.ids)
    work.ids, work.saved, work.known = strokes.ids, strokes.stroke, drawn_of(work.crop.path)


def take_in(annotating: Annotating, work: Work) -> None:
    """Import what was saved since the last import, if anything.

    Raises:
        LabelError: If it cannot be imported; the marks are saved all the same.
    """
    if work.imported < work.saved:
        stroke = work.saved
        annotating.take_in(work.crop.path.with_suffix(".json"))
        work.imported = stroke


def look(annotating: Annotating, work: Work) -> LiveView:
    """Return what all marks make of the crop, computed when they have changed.

    Raises:
        CytosegError: If too little is marked, or the run has no network.
    """
    stamp = crc32(work.ids.tobytes())
    if work.view is None or work.view[0] != stamp:
        work.view = stamp, annotating.view(work.crop, work.picture, work.ids)
    return work.view[1]


def layers(annotating: Annotating, seen: LiveView) -> Sequence[editor.Layer]:
    """Colour what was seen, to lie over the picture."""
    classes = annotating.classes
    clear = IGNORE if classes.fill is None else classes.fill_id
    return (
        editor.Layer("classes", "Class map", class_veil(seen.class_map, classes.colours, clear=clear)),
        editor.Layer("doubt", "Uncertainty", disagreement_veil(seen.disagreement, most=MOST_NATS)),
    )


def titles(crops: Sequence[CropFile]) -> list[str]:
    """Name crops for a list: where they lie, whether they are for testing, and who has drawn on them."""
    return [_title(crop) for crop in crops]


def _title(crop: CropFile) -> str:
    said = [crop.path.stem, *(["queue"] if crop.folder == "queue" else []), *(["test"] if crop.is_test else [])]
    if crop.drawn is not None:
        said.append(f"marked by {crop.drawn.author}" if crop.drawn.author else "marked")
    return state.plain(", ".join(said)).replace("\\", "")
