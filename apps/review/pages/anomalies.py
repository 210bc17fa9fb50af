"""Anomalies: the regions of scored slides that normal slides do not show."""

from pathlib import Path

import pandas as pd
import state
import streamlit as st
import widgets

from cytoseg.anomaly.regions import RegionList, read_list, scored_slides
from cytoseg.csv_table import csv_text

COMMAND = "cytoseg anomaly RECIPE SLIDE... --normal SLIDE"
HELP = (
    "The model adds noise to the slide, removes it again, and compares. What comes back different is unusual: in its "
    "texture, such as ink and dirt, if little noise was added; in its shape, if much was. A score of 1 is exceeded by "
    "2.5 % of the pixels of normal slides. Unusual does not mean abnormal."
)


def _table(found: RegionList) -> pd.DataFrame:
    rows = [
        (rank, one.score, one.kind, state.plain(one.label), one.region.x, one.region.y)
        for rank, one in enumerate(found.regions, start=1)
    ]
    return pd.DataFrame(rows, columns=["Rank", "Score", "Kind", "Class", "x", "y"])


def _pictures(folder: Path, found: RegionList) -> None:
    for rank, one in enumerate(found.regions, start=1):
        if one.picture:
            widgets.picture(folder / "regions" / one.picture, f"{rank}: {one.kind} {one.score:.1f}", COMMAND)


def main() -> None:
    state.begin()
    st.title("Anomalies")
    slides = scored_slides(state.run_folder())
    if not slides:
        state.missing("No slide of this run has been scored for anomalies yet.", COMMAND)
        return
    st.caption(HELP)
    chosen = state.select(st.container(), "Slide", [folder.name for folder in slides], key="anomalous slide")
    folder = next(folder for folder in slides if folder.name == chosen)
    found = state.guarded(lambda: read_list(folder))
    if not found.tissue:
        st.info("No tissue was found on this slide, so nothing was scored.", icon=":material/info:")
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


main()
