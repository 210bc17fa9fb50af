"""Small elements of pages: images, legends, downloads."""

import base64
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from types import ModuleType

import state
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cytoseg.csv_table import ENCODING
from cytoseg.drawing.colours import confusable
from cytoseg.drawing.overlay import RAMP
from cytoseg.drawing.pictures import read_rgb
from cytoseg.errors import CytosegError
from cytoseg.metrics.results import Evaluation, corrected_text
from cytoseg.viewer.deep_zoom import jpeg

METHOD_COLOURS = ("#0072b2", "#e69f00", "#8a8f98", "#009e73", "#cc79a7")
"""Colour-blind safe colours (Okabe and Ito), in the order of the methods."""


def type_in(label: str, placeholder: str, *, key: str, max_chars: int) -> None:
    """Show a text field whose value persists across pages as in ``select``; other code may clear it."""
    box = f"{key} box"
    state.show_in(box, st.session_state.get(key, ""))

    def keep() -> None:
        st.session_state[key] = st.session_state[box]

    st.text_area(label, key=box, on_change=keep, max_chars=max_chars, height=90, placeholder=placeholder)


def offer_csv(label: str, text: str, *, what: str, about: str | None = None) -> None:
    """Offer a table of the chosen run as a file for a spreadsheet.

    Args:
        label: Text on it.
        text: The table as CSV.
        what: End of the file's name, after the run's.
        about: Text shown when the mouse rests on the button.
    """
    name = f"{state.run_folder().resolve().name}-{what}.csv"
    data, icon = text.encode(ENCODING), ":material/download:"
    st.download_button(label, data, file_name=name, mime="text/csv", icon=icon, help=about)


def picture(path: Path, caption: str, command: str) -> None:
    """Show an image file, or which command makes it."""
    if not os.path.isfile(path):  # unlike Path.is_file, this treats inaccessible files as missing
        state.missing(f"{caption}: there is no image yet.", command)
        return
    try:
        show(st, jpeg(read_rgb(path)), caption=caption)
    except CytosegError as error:
        st.warning(state.error_text(error))


def show(where: ModuleType | DeltaGenerator, packed: bytes, *, caption: str | None = None, alt: str = "") -> None:
    """Show a JPEG file embedded in the page.

    Streamlit would serve it from a temporary URL that is dropped on the next run of the page, often before a busy
    browser has fetched it.

    Args:
        where: The part of the page.
        packed: The file.
        caption: Shown below it, as Markdown.
        alt: What a screen reader says; the caption, unless there is none.
    """
    address = f"data:image/jpeg;base64,{base64.b64encode(packed).decode()}"
    where.image(address, caption=caption, width="stretch", alt=alt or caption)


def ink() -> str:
    """Return the colour of text and lines in charts, by the theme that the browser shows."""
    return "#e8ecf1" if st.context.theme.type == "dark" else "#1c2430"


def swatch(colour: Sequence[int]) -> str:
    """Return a small square of a colour, as HTML."""
    return f'<span class="swatch" style="background:rgb({colour[0]},{colour[1]},{colour[2]})"></span>'


def warn_of_corrected(found: Evaluation) -> None:
    """Warn about test crops corrected from a prediction, if there are any."""
    if told := corrected_text(found.corrected, found.test_crops):
        st.warning(told)


def ramp(least: str, most: str) -> None:
    """Show the colour ramp from agreement to disagreement, labelled at both ends."""
    colours = ",".join(f"rgb({red},{green},{blue})" for red, green, blue in RAMP)
    st.html(
        f'<div style="height:14px;border-radius:4px;background:linear-gradient(90deg,{colours})"></div>'
        f'<div class="soft" style="display:flex;justify-content:space-between"><span>{escape(least)}</span>'
        f"<span>{escape(most)}</span></div>"
    )


def legend(names: Sequence[str], colours: Sequence[Sequence[int]], *, where: str = "in the recipe") -> None:
    """Show a legend of the classes, with a warning about colours that colour-blind people confuse.

    Args:
        names: The classes.
        colours: Red, green and blue of each, 0 to 255.
        where: Where their colours can be changed.
    """
    pairs = zip(names, colours, strict=True)
    st.html("&emsp;".join(f"<span>{swatch(colour)}{escape(name)}</span>" for name, colour in pairs))
    if alike := [f"{state.plain(names[i])} and {state.plain(names[j])}" for i, j in confusable(colours)]:
        st.caption(f"Colour-blind people cannot tell {', '.join(alike)} apart. Give them other colours {where}.")
