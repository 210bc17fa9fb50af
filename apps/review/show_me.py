"""Redrawing a crop from its marks, as a job."""

import jobs_list
import streamlit as st

from cytoseg.drawing.pictures import read_rgb
from cytoseg.errors import CytosegError
from cytoseg.workflows.annotating import Annotating, CropFile

HELP = (
    "The diffusion model redraws the crop where your marks differ from what the model sees there. For viewing only: "
    "a generated image, not a patient's."
)


def button(crop: CropFile, author: str) -> None:
    """Offer to redraw a crop that has saved marks."""
    told = HELP if author else "Type your name first."
    st.button(
        "Redraw from marks",
        icon=":material/brush:",
        on_click=jobs_list.start,
        args=("edit", author, (f"{crop.folder}/{crop.path.stem}",)),
        disabled=not author or crop.drawn is None,
        help=told if crop.drawn is not None else "Mark something first.",
    )


def picture(annotating: Annotating, crop: CropFile) -> None:
    """Show the crop as it was redrawn last, if it was."""
    edited, marks = annotating.run / "edited" / f"{crop.path.stem}_0.png", crop.path.with_suffix(".json")
    if not edited.is_file():
        return
    try:
        redrawn = read_rgb(edited)
        old = marks.is_file() and marks.stat().st_mtime > edited.stat().st_mtime
    except (CytosegError, OSError):  # removed or damaged meanwhile
        return
    caption = f"Made by the diffusion model{' from earlier marks' if old else ''}, not a patient's."
    st.image(redrawn, caption=caption, alt=caption)
