"""The table of a new project's classes: names and colours."""

import contextlib
from collections.abc import Mapping

import pandas as pd
import streamlit as st
import widgets
from PIL.ImageColor import getrgb

from cytoseg.workflows.recipe_text import COLOURS, GLASS, Wanted, class_colours

CLASSES = (("background", GLASS), ("cytoplasm", COLOURS[0]), ("nucleus", COLOURS[1]))


def ask() -> tuple[list[str], Mapping[str, str]]:
    """Ask for the classes in a table, which keeps what was typed when the page is left.

    Returns:
        The names, and the colours of those that were given one.
    """
    box, begun, typed = "classes of a new project", "classes begun with", "classes typed"
    if box not in st.session_state:  # the page was opened
        first = pd.DataFrame(CLASSES, columns=["Name", "Colour"])
        st.session_state[begun] = st.session_state.get(typed, first).reset_index(drop=True)
    table = st.data_editor(st.session_state[begun], num_rows="dynamic", hide_index=True, key=box)
    st.session_state[typed] = table
    st.caption("Type in the last row to add a class. Where the colour is empty, one is chosen.")
    return classes_in(table)


def classes_in(table: pd.DataFrame) -> tuple[list[str], Mapping[str, str]]:
    """Return the names in a table, and the colours of those that have one; a row just added holds None or NaN."""
    rows = [(str(row.Name).strip(), str(row.Colour).strip()) for row in table.fillna("").itertuples()]
    return [name for name, _ in rows if name], {name: colour for name, colour in rows if name and colour}


def show_colours(wanted: Wanted) -> None:
    """Show the colours that the classes will have; an invalid one is named when the project is created."""
    pairs = class_colours(wanted)
    with contextlib.suppress(ValueError):
        widgets.legend([name for name, _ in pairs], [getrgb(colour) for _, colour in pairs], where="above")
