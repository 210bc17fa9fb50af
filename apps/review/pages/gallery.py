"""Gallery: the test crops, worst first."""

from pathlib import Path

import crop_choice
import state
import streamlit as st
import widgets

from cytoseg.drawing.pictures import reduced
from cytoseg.errors import CytosegError
from cytoseg.metrics.results import CropScores, Evaluation, share_text
from cytoseg.viewer.deep_zoom import jpeg

PER_PAGE = 24
# Three cards fill a screen of 1280 px and five one of 1920 px; a crop of 256 px is then shown as it is.
CARD_PX = 288
SHARP_PX = 2 * CARD_PX
"""Scale factor for high-resolution screens."""


@st.cache_data(show_spinner=False, max_entries=512)
def _thumbnail(folder: Path, created: str, _found: Evaluation, layer: str, opacity: float) -> bytes:
    """Make the image of a card as JPEG: 512 uncompressed ones would take hundreds of megabytes."""
    shown = range(len(_found.class_names))
    return jpeg(reduced(crop_choice.painted(folder, _found, layer=layer, shown=shown, opacity=opacity), SHARP_PX))


def _card(crop: CropScores, found: Evaluation, layer: str) -> None:
    folder = state.run_folder() / "evaluation" / crop.folder
    layer, opacity = (layer, 0.45) if layer in crop_choice.LAYERS else ("Prediction", 0.0)
    with st.container(border=True, width=CARD_PX, gap="xsmall"):
        try:
            widgets.show(st, _thumbnail(folder, found.created, found, layer, opacity), alt=f"{crop.crop}: {layer}")
        except CytosegError:
            st.warning("The image of this crop is missing or damaged. Evaluate the run again.")
        st.markdown(
            f"**{state.plain(crop.crop)}**  \nmean IoU **{share_text(crop.miou)}**, slide {state.plain(crop.slide)}"
        )
        if crop.from_prediction:
            st.caption("Ground truth corrected from a prediction")
        parts = zip(found.class_names, crop.iou, strict=True)
        st.caption(" · ".join(f"{state.plain(name)}\u00a0{share_text(value)}" for name, value in parts))
        if st.button("Look closer", key=f"open {crop.crop}", width="stretch"):
            st.session_state["crop"] = crop.crop
            st.switch_page("pages/crop.py")


def main() -> None:
    state.begin(max_width=state.PICTURE_WIDTH)
    st.title("Test crops, worst first")
    found = state.evaluation_of_crops()
    order, layers = st.columns([1, 2], gap="medium")
    state.select(order, "Worst first by IoU", [crop_choice.MEAN, *found.class_names], key="order")
    options = [*crop_choice.LAYERS, "Image alone"]
    layer = layers.segmented_control(
        "Overlay", options, default=options[0], required=True, key="gallery overlay", persist_state="session"
    )
    widgets.warn_of_corrected(found)
    widgets.legend(found.class_names, found.colours)
    crops = crop_choice.ordered_crops(found)
    pages = -(-len(crops) // PER_PAGE)
    page = (
        st.pagination(pages, key=f"page of gallery {state.run_folder()}", persist_state="session") if pages > 1 else 1
    )
    with st.container(horizontal=True, gap="small"):
        for crop in crops[(page - 1) * PER_PAGE : page * PER_PAGE]:
            _card(crop, found, layer)


main()
