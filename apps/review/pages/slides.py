"""Slides: what was predicted on whole slides."""

from collections.abc import Sequence

import pandas as pd
import state
import streamlit as st

from cytoseg.metrics.run_folder import SUMMARY_HEAD, Summary, predictions, read_summary

CAPTION = "The slide, its predicted classes and its uncertainty"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    st.dataframe(pd.DataFrame(rows, columns=list(head)), hide_index=True, width="content")


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


def main() -> None:
    state.begin()
    st.title("Predicted slides")
    folders = predictions(state.run_folder())
    if not folders:
        state.missing("No slide has been predicted with this run yet.", "cytoseg predict RECIPE SLIDE")
        st.stop()
    names = [folder.name for folder in folders]
    folder = folders[names.index(st.selectbox("Slide", names, width=460))]
    summary = state.guarded(lambda: read_summary(folder))
    command = "cytoseg predict RECIPE SLIDE"
    if (folder / "uncertainty_preview.png").is_file():
        left, right = st.columns(2, gap="medium")
        with left:
            state.picture(folder / "preview.png", CAPTION, command)
        with right:
            state.picture(folder / "uncertainty_preview.png", "Uncertainty: bright places deserve a look", command)
    else:
        state.picture(folder / "preview.png", CAPTION, command)
    if summary is not None:
        _summary(summary)
    st.caption("The full maps are OME-TIFF files beside these previews. QuPath opens them, and the GeoJSON.")


main()
