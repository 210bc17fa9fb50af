"""Slides of a new project as cards, and what their sizes mean for it."""

from collections.abc import Sequence

import state
import streamlit as st
import widgets

from cytoseg.errors import CytosegError
from cytoseg.viewer.deep_zoom import jpeg
from cytoseg.workflows.new_project import ListedSlide, is_strip
from cytoseg.workflows.recipe_text import LARGEST_PX, Sizes, training_crop_px

CARD_PX = 160


def show(slides: Sequence[ListedSlide], total: int) -> None:
    """Show the first slides of a folder, and how many there are in all."""
    more = f", the first {len(slides)} are shown" if total > len(slides) else ""
    st.caption(f"{total} slide{'' if total == 1 else 's'}{more}.")
    with st.container(horizontal=True, key="thumbnails"):
        for slide in slides:
            _card(slide)


def _card(slide: ListedSlide) -> None:
    with st.container(width=CARD_PX, gap="xsmall"):
        if slide.thumbnail is not None:
            widgets.show(st, jpeg(slide.thumbnail), alt=slide.name)
        size = "cannot be opened" if slide.size is None else f"{slide.size.width} x {slide.size.height}"
        middle = ", its middle" if slide.size is not None and is_strip(slide.size) else ""
        mpp = f", {slide.mpp:.3g} µm a pixel" if slide.mpp is not None else ""
        st.caption(f"{state.plain(slide.name)}: {size}{mpp}{middle}")
        if slide.stain:
            st.html(f'<span class="soft">Stain: {"".join(map(widgets.swatch, slide.stain))}</span>')
        if slide.problem:
            st.warning(state.error_text(slide.problem))


def tell_sizes(slides: Sequence[ListedSlide], mpp: float | None) -> None:
    """Say which pixel sizes are assumed, and whether small slides keep the crops for training small."""
    opened = [slide for slide in slides if slide.size is not None]
    unsaid = [state.plain(slide.name) for slide in opened if slide.mpp is None]
    if unsaid and mpp:
        st.caption(f"Not stated by {_some(unsaid)}: assumed to be {mpp:g} µm a pixel.")
    sides = tuple(min(slide.size.width, slide.size.height) for slide in opened if slide.size is not None)
    if not sides:
        return
    try:
        side = training_crop_px(Sizes(tuple(slide.mpp for slide in opened), sides), mpp)
    except CytosegError as error:
        st.warning(state.error_text(error))
        return
    if side < LARGEST_PX:
        st.caption(
            f"The smallest slide limits the crops for training a diffusion model to {side} px a side, instead of "
            f"{LARGEST_PX}. If you want to train one, keep small pictures in another folder."
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
