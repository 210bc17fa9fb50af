"""State of the crop being annotated: strokes, saves and live results."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import editor
import lazy_networks
import numpy as np
import state
import streamlit as st
from numpy.typing import NDArray

from cytoseg.classes import IGNORE
from cytoseg.drawing.overlay import class_veil, disagreement_veil
from cytoseg.errors import CytosegError
from cytoseg.labels.drawn_marks import Drawn, drawn_of
from cytoseg.labels.readings import place_of
from cytoseg.labels.reviewer_names import same_person
from cytoseg.workflows.annotating import Annotating, CropFile

if TYPE_CHECKING:
    from cytoseg.interpreter.live import LiveView

MAX_NATS = 0.7
"""Upper end of the disagreement colours: an ensemble split over two classes."""
QUICK_S = 0.5
"""A crop is drawn without its first result if that takes longer."""
_background = ThreadPoolExecutor(max_workers=1, thread_name_prefix="first live result")


@dataclass
class Work:
    """A crop being drawn on.

    Attributes:
        crop: The crop.
        picture: (H, W, 3) uint8 RGB.
        begun: (H, W) uint8, ids when it was opened.
        ids: Ids after the last saved stroke.
        proposed: Ids of a proposal, or None.
        known: Who saved these marks last, as this page knows.
        token: Identifies this work in the browser.
        draft: Names it there over a restart of the server.
        saved: Number of the last saved stroke.
        imported: Number of the last imported stroke.
        is_label: Whether the marks are those that training uses.
        view: Live result with the ids it was computed from; None before the first one.
        first: The first live result being computed, with its ids; None before and after.
    """

    crop: CropFile
    picture: NDArray[np.uint8]
    begun: NDArray[np.uint8]
    ids: NDArray[np.uint8]
    proposed: NDArray[np.uint8] | None
    known: Drawn | None
    token: str
    draft: str
    saved: int = 0
    imported: int = 0
    is_label: bool = True
    view: "tuple[int, LiveView] | None" = None
    first: "tuple[int, Future[LiveView]] | None" = None


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


def work_on(annotating: Annotating, crop: CropFile, person: str = "") -> Work:
    """Return a person's work on a crop, opening it on first use; without a name, the marks that training uses.

    Raises:
        CytosegError: If the crop or its marks are damaged.
    """
    key = _key(crop, person)
    kept = st.session_state.get(key)
    if not isinstance(kept, Work):
        is_label = place_of(crop.path, person) == crop.path
        picture, marks = annotating.open(crop, person)
        whose = "" if is_label else f"/{person}"
        name = f"{annotating.run.name}/{crop.folder}/{crop.path.stem}"
        token, draft = f"{name}/{crc32(marks.ids.tobytes())}{whose}", f"{name}{whose}"
        kept = Work(crop, picture, marks.ids, marks.ids, marks.proposed, marks.drawn, token, draft, is_label=is_label)
        st.session_state[key] = kept
    kept.crop = crop  # its slide may have become a test slide
    return kept


def forget(crop: CropFile) -> None:
    """Reload a crop when it is drawn next."""
    for key in [key for key in st.session_state if str(key).startswith(_key(crop, ""))]:
        st.session_state.pop(key)


def _key(crop: CropFile, person: str) -> str:
    return f"work {crop.path}/{person}"


def save_strokes(annotating: Annotating, work: Work, author: str) -> None:
    """Save new strokes, if any.

    Raises:
        LabelError: If they cannot be saved, or another window has saved marks of this person: nothing is written then.
    """
    strokes = editor.strokes_of(work.token, work.begun.shape)
    if strokes is None or strokes.stroke <= work.saved or not author:
        return
    saved = annotating.save(work.crop, author, strokes.ids, work.known)
    work.ids, work.saved, work.known = strokes.ids, strokes.stroke, drawn_of(saved)
    work.is_label = saved == work.crop.path.with_suffix(".json")


def import_strokes(annotating: Annotating, work: Work) -> None:
    """Import new saved strokes, if any.

    Raises:
        LabelError: If they cannot be imported; the marks are saved nevertheless.
    """
    if work.imported < work.saved:
        stroke = work.saved
        if work.is_label:
            annotating.take_in(work.crop.path.with_suffix(".json"))
        work.imported = stroke


def live_view(annotating: Annotating, work: Work) -> "LiveView | None":
    """Return the live prediction of the crop, recomputed when the marks have changed.

    The first one loads the networks and needs the features of all labelled crops. It is computed in the background, so
    that the crop can be drawn on meanwhile: None until then.

    Raises:
        CytosegError: If too little is marked, or the run has no network.
    """
    stamp = crc32(work.ids.tobytes())
    if work.view is None:
        work.first = work.first or (stamp, _background.submit(_view, annotating, work.crop, work.picture, work.ids))
        wait([work.first[1]], timeout=QUICK_S)
        if not is_ready(work):
            return None
        (stamp_of_first, first), work.first = work.first, None
        work.view = stamp_of_first, first.result()
    if work.view[0] != stamp:
        work.view = stamp, _view(annotating, work.crop, work.picture, work.ids)
    return work.view[1]


def _view(annotating: Annotating, crop: CropFile, picture: NDArray[np.uint8], ids: NDArray[np.uint8]) -> "LiveView":
    return lazy_networks.live_results(annotating).view(crop, picture, ids)


def is_ready(work: Work) -> bool:
    """Return whether the first live result of a crop has been computed."""
    return work.first is None or work.first[1].done()


def layers(annotating: Annotating, seen: "LiveView") -> Sequence[editor.Layer]:
    """Colour the live results as overlays."""
    classes = annotating.classes
    clear = IGNORE if classes.fill is None else classes.fill_id
    return (
        editor.Layer("classes", "Class map", class_veil(seen.class_map, classes.colours, clear=clear)),
        editor.Layer("doubt", "Uncertainty", disagreement_veil(seen.disagreement, max_nats=MAX_NATS)),
    )


def titles(crops: Sequence[CropFile], assigned: Mapping[str, Sequence[str]], person: str) -> list[str]:
    """Return list titles of crops: name, queue or not, test or not, to whom it is assigned, and annotators."""
    return [_title(crop, assigned.get(crop.path.stem, ()), person) for crop in crops]


def _title(crop: CropFile, people: Sequence[str], person: str) -> str:
    said = [crop.path.stem, *(["queue"] if crop.folder == "queue" else []), *(["test"] if crop.is_test else [])]
    if people:
        said.append(f"assigned to {', '.join('you' if same_person(name, person) else name for name in people)}")
    if crop.readers:
        said.append(f"marked by {', '.join(crop.readers)}")
    if crop.drawn is not None and crop.drawn.resolves:
        said.append(f"resolved by {crop.drawn.author}")
    elif crop.drawn is not None and not crop.readers:
        said.append("marked")
    return state.plain(", ".join(said)).replace("\\", "")
