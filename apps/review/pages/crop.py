"""Crop view: a test crop with ground truth, prediction or disagreement overlaid."""

from pathlib import Path

import crop_choice
import state
import streamlit as st
import widgets

from cytoseg.drawing.pictures import read_rgb
from cytoseg.metrics.results import CropScores, Evaluation, share_text
from cytoseg.reporting.glossary import UNCERTAINTY
from cytoseg.viewer.deep_zoom import jpeg

# Width of the large image, at most; smaller crops are enlarged.
SHOWN_PX = 900


def _controls(crop: CropScores, found: Evaluation) -> tuple[str, float, list[int]]:
    layer = st.segmented_control(
        "Overlay",
        list(crop_choice.LAYERS),
        default="Prediction",
        required=True,
        key="crop overlay",
        persist_state="session",
    )
    told, kept = "0 % shows the image alone.", {"key": "crop opacity", "persist_state": "session"}
    opacity = st.slider("Opacity", 0, 100, 45, step=5, format="%d %%", help=told, **kept)
    if layer == "Disagreement":
        widgets.ramp("all agree", "most in this crop")
        return layer, opacity / 100, []
    shown = []
    for class_id, (name, colour) in enumerate(zip(found.class_names, found.colours, strict=True)):
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
            st.html(widgets.swatch(colour), width="content")
            kept = {"key": f"show {class_id}", "persist_state": "session"}
            if st.checkbox(state.plain(name), value=True, width="stretch", **kept):
                shown.append(class_id)
            st.markdown(f"IoU **{share_text(crop.iou[class_id])}**", width="content")
    return layer, opacity / 100, shown


def _numbers(crop: CropScores) -> None:
    left, right = st.columns(2)
    left.metric("Mean IoU", share_text(crop.miou))
    disagreement = share_text(crop.disagreement)
    right.metric("Disagreement", disagreement, help=state.plain(UNCERTAINTY))
    st.caption(f"Slide {state.plain(crop.slide)}")
    if crop.from_prediction:
        st.caption("The ground truth was corrected from a prediction.")


def _side_by_side(folder: Path, found: Evaluation) -> None:
    st.subheader("Side by side")
    shown = range(len(found.class_names))
    columns = st.columns(4)
    widgets.show(columns[0], jpeg(read_rgb(folder / "image.png")), caption="Image")
    for column, layer in zip(columns[1:], ("Ground truth", "Prediction", "Disagreement"), strict=True):
        painted = crop_choice.painted(folder, found, layer=layer, shown=shown, opacity=1, enlarged_to_px=512)
        widgets.show(column, jpeg(painted), caption=layer)


def _view(crop: CropScores, found: Evaluation) -> None:
    folder = state.run_folder() / "evaluation" / crop.folder
    large, side = st.columns([1.5, 1], gap="medium")
    with side:
        layer, opacity, shown = _controls(crop, found)
        _numbers(crop)
    picture = crop_choice.painted(folder, found, layer=layer, shown=shown, opacity=opacity, enlarged_to_px=SHOWN_PX)
    widgets.show(large.container(key="whole-crop"), jpeg(picture), alt=f"{crop.crop}: {layer}")
    _side_by_side(folder, found)


def main() -> None:
    state.begin(max_width=state.PICTURE_WIDTH)
    st.title("Crop view")
    found = state.evaluation_of_crops()
    crop = crop_choice.choose_crop(crop_choice.ordered_crops(found))
    state.guarded(lambda: _view(crop, found))


main()
