"""The slide viewer: deep zoom with layers (see viewer.js)."""

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zlib import crc32

import state
import streamlit as st
import tiles
import widgets
from compare import Other
from scripts import joined, text_of

from cytoseg.classes import ClassList
from cytoseg.geometry import Region
from cytoseg.reporting.glossary import UNCERTAINTY
from cytoseg.viewer.deep_zoom import TILE_PX, TilePyramid
from cytoseg.viewer.tile_service import CLASSES, DISAGREEMENT, SLIDE, TRUTH, SlideView

TITLES = {CLASSES: "Class map", DISAGREEMENT: "Uncertainty", TRUTH: "Ground truth"}
MODULES = ("layers", "crops", "compare", "outlines", "views")
"""Modules of the viewer (viewer_NAME.js), each after those that it imports."""
_COMPARED = {CLASSES, DISAGREEMENT}


@dataclass(frozen=True)
class Jump:
    """A square of a slide to show, in level-0 pixels; a new number triggers it again."""

    slide: str
    x: int
    y: int
    width: int
    number: int


@dataclass(frozen=True)
class Pointed:
    """Where the user pointed on a slide, in level-0 pixels.

    Attributes:
        clicked: Last click: ``x``, ``y``, and the ``width`` of the view; None before the first one.
        drawn: Last rectangle; None before the first one.
    """

    clicked: Mapping[str, int] | None
    drawn: Region | None


def go_to(slide: str, *, x: int, y: int, width: int) -> None:
    """Open the page Slides at a position from another page, which ends.

    Args:
        slide: Key of the slide, which is its id.
        x: Left edge in level-0 pixels.
        y: Upper edge.
        width: Width of the view.
    """
    st.session_state["slide"] = slide
    ask_jump(slide, x, y, width)
    st.switch_page("pages/slides.py")


def ask_jump(slide: str, x: int, y: int, width: int) -> None:
    """Request a position for the next drawing of the viewer."""
    before = st.session_state.get("place")
    number = before.number + 1 if isinstance(before, Jump) else 1
    st.session_state["place"] = Jump(slide, x, y, max(1, width), number)


def link(run: Path, key: str, place: Mapping[str, int]) -> str:
    """Return the relative URL of the view around a clicked position; see ``follow_link``."""
    half = place["width"] // 2
    said = {"run": run.resolve().name, "slide": key, "x": max(0, place["x"] - half), "y": max(0, place["y"] - half)}
    said["width"] = place["width"]
    return f"/slides?{urlencode(said)}"


def follow_link() -> None:
    """Follow the page's URL once: run, slide, and x, y and width in level-0 pixels, if given."""
    given = st.query_params.to_dict()
    for name in ("run", "slide"):
        if name in given:
            st.session_state[name] = given[name]
    numbers = [given.get(name, "") for name in ("x", "y", "width")]
    if "slide" in given and all(re.fullmatch(r"[0-9]{1,7}", text) for text in numbers):
        ask_jump(given["slide"], *map(int, numbers))
    if given:
        st.query_params.clear()


def choose_layers(slide_view: SlideView) -> dict[str, float]:
    """Show controls of the layers; return the opacity of each, 0 if off."""
    opacities = {}
    for layer in slide_view.layers:
        means = state.plain(UNCERTAINTY) if layer == DISAGREEMENT else None
        on = st.toggle(TITLES[layer], value=layer == CLASSES, key=f"layer {layer}", help=means, persist_state="session")
        label = f"Opacity of {TITLES[layer]}"
        choice = {"disabled": not on, "label_visibility": "collapsed"}
        percent = st.slider(label, 0, 100, 50, 5, "%d %%", key=f"opacity {layer}", persist_state="session", **choice)
        opacities[layer] = percent / 100 if on else 0.0
    if DISAGREEMENT in slide_view.layers:
        widgets.ramp("certain", f"{slide_view.brightest:.2f} nats or more")
    return opacities


def choose_classes(classes: ClassList) -> list[int]:
    """Show a choice of classes; return their ids. The fill class is off by default: it would cover the slide."""
    shown = []
    st.markdown("**Classes**")
    for class_id, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True)):
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
            st.html(widgets.swatch(colour), width="content")
            painted, key = name != classes.fill, f"paint {name}"
            if st.checkbox(state.plain(name), value=painted, key=key, width="stretch", persist_state="session"):
                shown.append(class_id)
    return shown


@dataclass(frozen=True)
class Paint:
    """How a slide is painted.

    Attributes:
        opacities: 0 to 1 per layer; other layers are hidden.
        shown: Ids of the classes to paint.
        outlines: Where the outlines of objects come from, see ``outlines.viewer_options``; None for none.
    """

    opacities: Mapping[str, float]
    shown: Collection[int]
    outlines: Mapping[str, Any] | None = None


def show(
    run: Path,
    key: str,
    slide_view: SlideView,
    paint: Paint,
    *,
    other: Other | None = None,
    shown_there: Collection[int] = (),
) -> Pointed:
    """Show a slide.

    Args:
        run: The run folder.
        key: Key of the slide.
        slide_view: Its description.
        paint: How its layers are painted.
        other: Another prediction of the slide, to compare.
        shown_there: Ids of its classes to paint.

    Returns:
        Where the user pointed last.
    """
    jump = st.session_state.get("place")
    there = isinstance(jump, Jump) and jump.slide == key
    data: dict[str, Any] = {
        "library": tiles.LIBRARY,
        "slide": tiles.layer_url(run, key, SLIDE),
        "version": slide_view.version,
        "width": slide_view.size.width,
        "height": slide_view.size.height,
        "mpp": slide_view.mpp,
        "tile": TILE_PX,
        "finest": TilePyramid(slide_view.size).finest,
        "layers": _layers(run, key, slide_view, paint),
        "compare": "",
        "titles": [],
        "outlines": paint.outlines,
        "jump": asdict(jump) if there else None,
    }
    if other is not None:
        there_too = {
            name: opacity for name, opacity in paint.opacities.items() if name in _COMPARED & {*other.view.layers}
        }
        data["layers"] += _layers(other.run, other.key, other.view, Paint(there_too, shown_there), side=1)
        here = run.resolve().name if other.run != run else "this version"
        data |= {"compare": other.way, "titles": [here, other.title]}
    # Keyed by slide, so that a click is not applied to the next slide; as a number, because Streamlit refuses keys with
    # two consecutive underscores.
    number = crc32(f"{run.name}/{key}".encode(errors="surrogateescape"))
    result = _component()(key=f"viewer {number}", data=data, on_clicked_change=_noted, on_drawn_change=_noted)
    clicked = result.clicked
    return Pointed(clicked if isinstance(clicked, Mapping) else None, _region(result.drawn))


def _noted() -> None:
    """Answers are read when the page runs; Streamlit needs a function to keep them."""


def _region(drawn: object) -> Region | None:
    try:
        return Region.from_json([drawn[name] for name in ("x", "y", "width", "height")])  # type: ignore[index]
    except (TypeError, KeyError, ValueError):  # nothing yet, or no rectangle
        return None


def _layers(run: Path, key: str, slide_view: SlideView, paint: Paint, *, side: int = 0) -> list[dict[str, Any]]:
    """Describe the layers of one side: 0 is left and 1 is right."""
    classes = "&classes=" + ",".join(map(str, sorted(paint.shown)))
    return [
        {
            "name": layer,
            "side": side,
            "address": tiles.layer_url(run, key, layer),
            "version": slide_view.version,
            "query": "" if layer == DISAGREEMENT else classes,
            "opacity": opacity,
        }
        for layer, opacity in paint.opacities.items()
    ]


@cache
def _component() -> Any:
    parts = {"html": text_of("viewer.html"), "css": text_of("viewer.css"), "js": joined("viewer", MODULES)}
    return st.components.v2.component("cytoseg_viewer", **parts)
