"""A second prediction of a slide, from another run, to be shown beside the first."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import state
import streamlit as st
import tiles

from cytoseg.classes import ClassList
from cytoseg.errors import CytosegError
from cytoseg.viewer.slide_catalogue import Found
from cytoseg.viewer.tile_service import SlideView

NOTHING = "Nothing"
SWIPE, SIDE = "Swipe", "Side by side"
WAYS = {SWIPE: "swipe", SIDE: "side"}
"""Ways to compare, as the viewer calls them."""
_HELP = (
    "Another run that predicted this slide. Drag the line to swipe, or use the arrow keys on it, [ and ] elsewhere; "
    "side by side both move together."
)
_ALONE = "No other run has predicted this slide. Predict it with another run to compare the two."


@dataclass(frozen=True)
class Other:
    """The same slide as another run predicted it, and how it is compared: "swipe" or "side"."""

    run: Path
    key: str
    view: SlideView
    classes: ClassList
    way: str


def choose(run: Path, found: Found) -> Other | None:
    """Offer the other runs that predicted a slide; return the chosen one, None for nothing.

    Args:
        run: The chosen run.
        found: The slide in it.
    """
    others = {other.resolve().name: other for other in state.all_runs() if other.resolve() != run.resolve()}
    names = [name for name, other in others.items() if (other / "predictions" / found.slide).is_dir()]
    chosen = st.selectbox(
        "Compare with",
        [NOTHING, *names],
        key=f"beside {found.key}",
        disabled=not names,
        help=_HELP if names else _ALONE,
    )
    if chosen not in names:
        return None
    way = st.segmented_control("How", list(WAYS), default=SWIPE, key="way", label_visibility="collapsed", required=True)
    try:
        return _looked(others[chosen], found, WAYS.get(str(way), "swipe"))
    except CytosegError as error:
        st.warning(state.told(error), icon=":material/warning:")
        return None


def _looked(run: Path, found: Found, way: str) -> Other:
    """Find a slide in another run.

    Raises:
        CytosegError: If that run predicted another file of the same name, or a file cannot be read.
    """
    slides = tiles.catalogue(run).slides.values()
    same = next((one for one in slides if one.path == found.path and one.prediction is not None), None)
    if same is None:
        raise CytosegError(
            f"{run.resolve().name}: predicted another file named {found.slide}, or an earlier version of it. "
            "Predict the slide again with that run."
        )
    seen = tiles.subject(run, same.key)
    view = tiles.look(seen)
    if view.notes:
        raise CytosegError(f"{run.resolve().name}: {view.notes[0]}")
    return Other(run, same.key, view, seen.classes, way)


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
