"""Slides: what was predicted on whole slides."""

import pandas as pd
import state
import streamlit as st

from cytoseg.metrics.run_folder import predictions, read_summary


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
            state.picture(folder / "preview.png", "Predicted classes", command)
        with right:
            state.picture(folder / "uncertainty_preview.png", "Uncertainty: bright places deserve a look", command)
    else:
        state.picture(folder / "preview.png", "Predicted classes", command)
    if summary:
        st.subheader("Summary")
        st.dataframe(pd.DataFrame(summary, columns=["What", "Value"]), hide_index=True, width="content")
    st.caption("The full class map and uncertainty map are OME-TIFF files beside these previews; QuPath opens them.")


main()
