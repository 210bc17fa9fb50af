"""Choosing a test crop, and painting it."""

import math
from collections.abc import Sequence
from pathlib import Path

import state
import streamlit as st

from cytoseg.drawing.overlay import enlarge, enlarge_smoothly, paint_classes, paint_disagreement, stretched
from cytoseg.drawing.pictures import Picture, read_map, read_rgb
from cytoseg.errors import CytosegError
from cytoseg.metrics.results import CropScores, Evaluation, worst_first

LAYERS = {"Prediction": "prediction.png", "Ground truth": "truth.png", "Disagreement": "disagreement.png"}
"""Overlays of a test crop with their files."""
MEAN = "Mean over classes"


def ordered_crops(found: Evaluation) -> list[CropScores]:
    """Return the test crops in the order chosen in the gallery, worst first."""
    order = st.session_state.get("order", MEAN)
    return worst_first(found.crops, found.class_names.index(order) if order in found.class_names else None)


def choose_crop(crops: Sequence[CropScores]) -> CropScores:
    """Show a choice of crops with buttons and arrow keys; the choice persists across pages."""
    names = [crop.crop for crop in crops]
    kept = st.session_state.get("crop")
    place = names.index(kept) if kept in names else 0
    with st.container(horizontal=True, vertical_alignment="bottom"):
        offer_beside(names, names[place], key="crop", shortcuts=("Left", "Right"))
        chosen = state.select(st.container(width=420), "Crop, worst first", names, key="crop")
        st.markdown(f":gray[{place + 1} of {len(names)}]")
    return crops[names.index(chosen)]


def offer_beside(names: Sequence[str], chosen: str, *, key: str, shortcuts: tuple[str, str]) -> None:
    """Offer the crops before and after the chosen one.

    Args:
        names: All crops in their order.
        chosen: The chosen crop, one of them.
        key: Streamlit key of the choice.
        shortcuts: Keys of "Previous" and "Next".
    """
    place = names.index(chosen)
    for label, step, icon, shortcut in zip(
        ("Previous", "Next"), (-1, 1), ("arrow_back", "arrow_forward"), shortcuts, strict=True
    ):
        there = place + step
        to = names[there] if 0 <= there < len(names) else None
        go = {"on_click": st.session_state.__setitem__, "args": (key, to)}
        st.button(label, icon=f":material/{icon}:", shortcut=shortcut, disabled=to is None, **go)


def painted(
    folder: Path, found: Evaluation, *, layer: str, shown: Sequence[int], opacity: float, enlarged_to_px: int = 0
) -> Picture:
    """Overlay one of ``LAYERS`` on a test crop.

    Args:
        folder: evaluation/crops/<crop>.
        found: The evaluation, for the colours.
        layer: The overlay.
        shown: Ids of the classes to paint; not used for the disagreement.
        opacity: 0 to 1.
        enlarged_to_px: Crops are enlarged by an integer factor up to this width: the image smoothly, ids as squares.

    Returns:
        (H, W, 3) uint8.

    Raises:
        CytosegError: If an image is missing or damaged.
    """
    image = read_rgb(folder / "image.png")
    above = read_map(folder / LAYERS[layer])
    if above.shape != image.shape[:2]:
        raise CytosegError(f"{folder.name}/{LAYERS[layer]} differs in size from image.png; evaluate the run again.")
    if layer == "Disagreement":
        above = stretched(above * (math.log(2) / 255))[0]
    factor = max(1, enlarged_to_px // image.shape[1])
    image, above = enlarge_smoothly(image, factor), enlarge(above, factor)
    if layer == "Disagreement":
        return paint_disagreement(image, above, opacity=opacity)
    return paint_classes(image, above, colours=found.colours, shown=shown, opacity=opacity)
