"""A second prediction of a slide, from another run or an earlier one of this run, to be shown beside the first."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import state
import streamlit as st
import tiles

from cytoseg.classes import ClassList
from cytoseg.errors import CytosegError
from cytoseg.evaluation.run_folder import time_text
from cytoseg.predict.kept_versions import Version, keep_version, version_at, version_of, versions_of
from cytoseg.viewer.slide_catalogue import CatalogueEntry
from cytoseg.viewer.tile_service import SlideView

NOTHING = "Nothing"
SWIPE, SIDE = "Swipe", "Side by side"
WAYS = {SWIPE: "swipe", SIDE: "side"}
"""Ways to compare, by their names in the viewer."""
_HELP = (
    "Another run that predicted this slide, or a version that this run has kept. Drag the line to swipe, or use the "
    "arrow keys on it, [ and ] elsewhere; side by side both move together."
)
_ALONE = (
    "No other run has predicted this slide, and no version is kept. Predict it with another run, or keep this version "
    "before you predict it again."
)
_KEEP = "Keeps this prediction when the slide is predicted again, so that the two can be compared."


@dataclass(frozen=True)
class Other:
    """Another prediction of the same slide: its run, its title, and how to compare, "swipe" or "side"."""

    run: Path
    key: str
    title: str
    view: SlideView
    classes: ClassList
    way: str


def choose(run: Path, found: CatalogueEntry) -> Other | None:
    """Offer the other predictions of a slide; return the chosen one, None for nothing.

    Args:
        run: The chosen run.
        found: The slide in it.
    """
    present = _present(found)
    kept = _kept(run, found, present)
    others = {other.resolve().name: other for other in state.all_runs() if other.resolve() != run.resolve()}
    names = [name for name, other in others.items() if (other / "predictions" / found.slide).is_dir()]
    chosen = st.selectbox(
        "Compare with",
        [NOTHING, *kept, *names],
        key=f"beside {found.key}",
        persist_state="session",
        disabled=not names and not kept,
        help=_HELP if names or kept else _ALONE,
    )
    if found.prediction is not None and present is not None:
        _offer_keeping(found.prediction, present)
    if chosen not in names and chosen not in kept:
        return None
    way = st.segmented_control(
        "How",
        list(WAYS),
        default=SWIPE,
        key="way",
        label_visibility="collapsed",
        required=True,
        persist_state="session",
    )
    try:
        if chosen in kept:
            return _viewed(run, kept[chosen], chosen, WAYS.get(str(way), "swipe"))
        return _looked(others[chosen], found, WAYS.get(str(way), "swipe"))
    except CytosegError as error:
        st.warning(state.error_text(error), icon=":material/warning:")
        return None


def _kept(run: Path, found: CatalogueEntry, present: Version | None) -> dict[str, str]:
    """List the keys of the kept versions of a slide by title, without the present one."""
    keys = {}
    for key, one in tiles.catalogue(run).versions.items():
        version = None if one.path != found.path or one.prediction is None else version_at(one.prediction)
        if version is not None and version != present:
            keys[f"{time_text(version.made)}, model {version.bundle}"] = key
    return keys


def _present(found: CatalogueEntry) -> Version | None:
    try:
        return None if found.prediction is None else version_of(found.prediction)
    except CytosegError:  # an older summary
        return None


def _offer_keeping(prediction: Path, present: Version) -> None:
    if present in versions_of(prediction.parents[1], prediction.name):
        st.caption("This version is kept.")
    elif st.button("Keep this version", icon=":material/bookmark_add:", help=_KEEP):
        state.guarded(lambda: keep_version(prediction))
        st.rerun()


def _looked(run: Path, found: CatalogueEntry, way: str) -> Other:
    """Find a slide in another run.

    Raises:
        CytosegError: If that run predicted another file of the same name, or a file cannot be read.
    """
    slides = tiles.catalogue(run).slides.values()
    same = next((one for one in slides if one.path == found.path and one.prediction is not None), None)
    name = run.resolve().name
    if same is None:
        raise CytosegError(
            f"{name}: predicted another file named {found.slide}, or an earlier version of it. "
            "Predict the slide again with that run."
        )
    return _viewed(run, same.key, name, way)


def _viewed(run: Path, key: str, title: str, way: str) -> Other:
    """Describe a prediction by its key in a run.

    Raises:
        CytosegError: If it is of another file, or cannot be read.
    """
    seen = tiles.subject(run, key)
    view = tiles.describe(seen)
    if view.notes:
        raise CytosegError(f"{title}: {view.notes[0]}")
    return Other(run, key, title, view, seen.classes, way)


def painted(classes: ClassList, shown: Collection[int], other: ClassList) -> list[int]:
    """Translate the classes to paint to the ids of another run, by name.

    Args:
        classes: Of the chosen run.
        shown: Ids of its classes to paint.
        other: Of the other run; its classes that the chosen run lacks are painted, except for the fill class.
    """
    names = {classes.names[class_id] for class_id in shown}
    new = set(other.names) - set(classes.names) - {other.fill}
    return [class_id for class_id, name in enumerate(other.names) if name in names | new]
