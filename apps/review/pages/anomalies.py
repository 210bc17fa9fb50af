"""Anomalies: the regions of scored slides that normal slides do not show."""

from pathlib import Path

import jobs_list
import pandas as pd
import reviews
import state
import streamlit as st
import tiles
import widgets

from cytoseg.anomaly.regions import FOLDER, RegionList, read_list, scored_slides
from cytoseg.anomaly.thresholds import Thresholds, read_thresholds
from cytoseg.csv_table import csv_text
from cytoseg.errors import CytosegError
from cytoseg.jobs.job_commands import LEARN_NORMAL, ORDERS
from cytoseg.workflows.anomaly_needs import missing_for_anomalies

ICON = ":material/info:"
COMMAND = "cytoseg anomaly RECIPE SLIDE... --normal SLIDE"
HELP = (
    "The model adds noise to the slide, removes it again, and compares. What comes back different is unusual: in its "
    "texture, such as ink and dirt, if little noise was added; in its shape, if much was."
)
SCORES = "A score of 1 is exceeded by 2.5 % of the pixels of normal slides. Unusual does not mean abnormal."


def _table(found: RegionList) -> pd.DataFrame:
    rows = [
        (rank, one.score, one.kind, one.label, one.region.x, one.region.y)
        for rank, one in enumerate(found.regions, start=1)
    ]
    return pd.DataFrame(rows, columns=["Rank", "Score", "Kind", "Class", "x", "y"])


def _pictures(folder: Path, found: RegionList) -> None:
    for rank, one in enumerate(found.regions, start=1):
        if one.picture:
            widgets.picture(folder / "regions" / one.picture, f"{rank}: {one.kind} {one.score:.1f}", COMMAND)


def _start(author: str) -> None:
    """Offer to learn normal slides and to score others, or say what the run lacks.

    Raises:
        CytosegError: If the recipe or the list of slides cannot be read.
    """
    run = state.run_folder()
    lacks = missing_for_anomalies(run, base=state.base_folder())
    if lacks is not None:
        if lacks.command:
            state.missing(lacks.sentence, f"cytoseg {lacks.command} RECIPE")
        else:
            st.info(lacks.sentence, icon=ICON)
            state.link_to("pages/new_project.py")
        return
    slides = list(tiles.catalogue(run).slides)
    if not slides:
        st.info("The folders of the recipe hold no slides. Put slides there, or begin with others.", icon=ICON)
        state.link_to("pages/new_project.py")
        return
    known = _thresholds(run)
    if known is None:
        st.info(f"First choose slides without anomalies and press *{ORDERS[LEARN_NORMAL].title}*.", icon=ICON)
    else:
        names = ", ".join(Path(one.path).name for one in known.slides)
        st.caption(state.plain(f"Normal slides: {names}."))
    chosen = st.multiselect(
        "Slides", slides, key=f"anomalies of {run}", placeholder="Choose slides", persist_state="session"
    )
    with st.container(horizontal=True):
        _button(LEARN_NORMAL, author, chosen, told="")
        _button("anomaly", author, chosen, told="" if known else "First learn normal slides.")


def _thresholds(run: Path) -> Thresholds | None:
    try:
        return read_thresholds(run / FOLDER)
    except CytosegError as error:
        st.warning(state.error_text(error), icon=":material/warning:")
        return None


def _button(command: str, author: str, chosen: list[str], *, told: str) -> None:
    told = "Type your name first." if not author else told or ("" if chosen else "Choose slides first.")
    st.button(
        ORDERS[command].title,
        key=f"start {command}",
        type="primary",
        on_click=jobs_list.start,
        args=(command, author, tuple(chosen)),
        disabled=bool(told),
        help=told or ORDERS[command].told,
    )


def _results(slides: list[Path]) -> None:
    st.subheader(f"Scored slides ({len(slides)})")
    st.caption(SCORES)
    chosen = state.select(st.container(), "Slide", [folder.name for folder in slides], key="anomalous slide")
    folder = next(folder for folder in slides if folder.name == chosen)
    found = state.guarded(lambda: read_list(folder))
    if not found.tissue:
        st.info("No tissue was found on this slide, so nothing was scored.", icon=ICON)
        return
    areas = ", ".join(f"{name} {share:.1%}" for name, share in sorted(found.areas.items()))
    st.markdown(state.plain(f"Above the threshold: {areas}. A normal slide has about 2.5 %."))
    widgets.picture(folder / "preview.png", "The slide, its classes and its anomalies", COMMAND)
    st.subheader(f"Regions ({len(found.regions)})")
    if not found.regions:
        st.caption("No region lies above the threshold.")
        return
    table = _table(found)
    st.dataframe(table, hide_index=True, height=250)
    text = csv_text([list(table.columns), *table.itertuples(index=False)])
    widgets.offer_csv("Regions as CSV", text, what=f"{chosen}-anomalies")
    _pictures(folder, found)


def main() -> None:
    state.begin()
    st.title("Anomalies", help=f"{HELP} {SCORES}")
    jobs_list.show_result()
    left, right = st.columns([1, 1.2], gap="medium")
    with left:
        author = reviews.reviewer()
        try:
            _start(author)
        except CytosegError as error:  # finished results are shown anyway
            st.error(state.error_text(error), icon=":material/error:")
    with right:
        jobs_list.show((LEARN_NORMAL, "anomaly"))
    if slides := scored_slides(state.run_folder()):
        _results(slides)


main()
