"""Slides: deep zoom of a slide with prediction and annotation layers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import approvals
import cells
import compare
import exports
import outlines
import pandas as pd
import state
import streamlit as st
import tiles
import viewer
import widgets

from cytoseg.classes import ClassList
from cytoseg.errors import CytosegError
from cytoseg.evaluation.run_folder import SUMMARY_HEAD, Summary, is_of_another_model, predictions, read_summary
from cytoseg.geometry import Region
from cytoseg.viewer.slide_catalogue import Catalogue, CatalogueEntry
from cytoseg.viewer.tile_service import CLASSES, TRUTH, SlideView

CAPTION = "The slide, its predicted classes and its uncertainty"
COMMAND = "cytoseg predict RECIPE SLIDE"
GONE = "The predicted slide was moved or replaced, so its maps cannot be overlaid. Restore it, or predict it again."
UNKNOWN = "The recipe of this run cannot be read, so only previews of its slides are shown."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    st.dataframe(pd.DataFrame(rows, columns=list(head)), hide_index=True)


def _summary(summary: Summary) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("Classes")
        _table(SUMMARY_HEAD, summary.classes)
    with right:
        st.subheader("Slide")
        _table(["What", "Value"], summary.facts)
    if summary.provenance:
        with st.expander("Made with"):
            _table(["What", "Value"], summary.provenance)
    st.caption("The full maps are OME-TIFF files in the folder of the prediction. QuPath opens them, and the GeoJSON.")


def _previews(folder: Path) -> None:
    widgets.picture(folder / "preview.png", CAPTION, COMMAND)


def _jump(key: str, view: SlideView) -> Region | None:
    with st.form("jump", border=False):
        st.markdown("**Go to** (pixels of the slide)")
        with st.container(horizontal=True, gap="xsmall"):
            x = st.number_input("x", 0, view.size.width - 1, 0)
            y = st.number_input("y", 0, view.size.height - 1, 0)
            width = st.number_input("Width", 1, view.size.width, min(1000, view.size.width))
        with st.container(horizontal=True, gap="xsmall"):
            go = st.form_submit_button("Go", icon=":material/near_me:")
            cut = st.form_submit_button("Annotate", icon=":material/brush:", help="This square, as a new crop.")
        if go:
            viewer.ask_jump(key, int(x), int(y), int(width))
    return Region(int(x), int(y), int(width), int(width)) if cut else None


def _annotate(found: CatalogueEntry, region: Region) -> None:
    """Open the page Annotate, which loads the networks and cuts the region as a crop."""
    st.session_state["region to cut"] = (found.path, found.slide, region)
    st.switch_page("pages/annotate.py")


def _outlines(
    run: Path, found: CatalogueEntry, view: SlideView, classes: ClassList, shown: Sequence[int]
) -> dict[str, Any] | None:
    """Offer the outlines of the objects, if there are any."""
    if found.prediction is None or CLASSES not in view.layers:
        return None
    told = outlines.viewer_options(run, found.key, found.prediction, classes, shown)
    on = told is not None and st.toggle("Outlines of objects", value=True, key="outlines", persist_state="session")
    return told if on else None


@st.fragment
def _look(run: Path, found: CatalogueEntry, view: SlideView, classes: ClassList) -> None:
    key = found.key
    large, side = st.columns([3.6, 1], gap="medium")
    with side:
        opacities = viewer.choose_layers(view)
        shown = viewer.choose_classes(classes) if {CLASSES, TRUTH} & opacities.keys() else []
        traced = _outlines(run, found, view, classes, shown)
        other = compare.choose(run, found)
        typed = _jump(key, view)
        if view.is_assumed:
            st.caption(f"The slide does not state its pixel size; the recipe assumes {view.mpp:g} µm.")
    with large:
        there = [] if other is None else compare.painted(classes, shown, other.classes)
        paint = viewer.Paint(opacities, shown, traced)
        pointed = viewer.show(run, key, view, paint, other=other, shown_there=there)
        drawn, clicked = pointed.drawn, pointed.clicked
        if drawn is not None and st.button(
            f"Annotate the drawn crop ({drawn.width} x {drawn.height})", type="primary", icon=":material/brush:"
        ):
            _annotate(found, drawn)
        if typed is not None:
            _annotate(found, typed)
        if clicked is not None:
            st.caption(f"Clicked at x {clicked['x']}, y {clicked['y']}. A link to this place:")
            st.code(viewer.link(run, key, clicked), language=None)
    if found.prediction is not None:
        with st.container(width=state.TEXT_PX):
            cells.show(found, view, classes, clicked)
    for note in view.notes:
        st.warning(state.error_text(note), icon=":material/warning:")


def _choose(listed: Catalogue) -> str:
    predicted = [key for key, found in listed.slides.items() if found.prediction is not None]
    others = [key for key, found in listed.slides.items() if found.prediction is None]
    keys = [*predicted, *(name for name in listed.gone if name not in listed.slides), *others]
    if not keys:
        state.missing("No slide has been predicted with this run yet.", COMMAND)
        st.stop()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = state.select(st.container(width=460), "Slide", keys, key="slide")
        first = "; these come first" if 0 < len(others) < len(keys) else ""
        st.markdown(f":gray[{len(keys) - len(others)} of {len(keys)} predicted{first}]")
    if listed.outside:
        st.caption(f"Links that point outside the recipe's folders and are not shown: {listed.outside}.")
    return chosen


def _catalogue(run: Path) -> tuple[Catalogue, str]:
    """List the slides, with a reason for each prediction without a slide."""
    try:
        return tiles.catalogue(run), GONE
    except CytosegError:
        # Its problems are many lines about a file and are shown by the next command.
        return Catalogue({}, tuple(folder.name for folder in predictions(run)), 0), UNKNOWN


def _show(run: Path, found: CatalogueEntry) -> None:
    try:
        seen = tiles.subject(run, found.key)
        view = tiles.describe(seen)
    except CytosegError as error:
        st.warning(state.error_text(error), icon=":material/warning:")
        if found.prediction is not None:
            _previews(found.prediction)
        return
    _look(run, found, view, seen.classes)


def main() -> None:
    viewer.follow_link()
    state.begin(max_width=state.PICTURE_WIDTH)
    st.title("Slides")
    if (refused := st.session_state.pop("cut refused", None)) is not None:
        st.error(refused, icon=":material/error:")
    run = state.run_folder()
    listed, why_gone = _catalogue(run)
    key = _choose(listed)
    found, folder = listed.slides.get(key), run / "predictions" / key
    if key in listed.gone:
        st.warning(why_gone, icon=":material/warning:")
    if found is not None and found.prediction is not None and is_of_another_model(run, found.prediction):
        st.info(approvals.ANOTHER_MODEL, icon=":material/info:")
        state.link_to("pages/predict.py")
    if found is None:
        _previews(folder)
    else:
        _show(run, found)
        if found.prediction is None:
            state.missing("There is no prediction of this slide.", COMMAND)
            return
        folder = found.prediction
        with st.container(horizontal=True):
            exports.show_downloads(run, key, folder)
        with st.container(width=state.TEXT_PX):
            approvals.show_sign_off(run, key, folder)
    if (summary := state.guarded(lambda: read_summary(folder))) is not None:
        with st.container(width=state.TEXT_PX):
            _summary(summary)


main()
