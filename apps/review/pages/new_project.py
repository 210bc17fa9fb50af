"""New project: choose a folder of slides and name the classes."""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import slide_cards
import state
import streamlit as st
import widgets
from PIL.ImageColor import getrgb

from cytoseg.errors import CytosegError
from cytoseg.workflows.new_project import (
    ListedSlide,
    Project,
    list_slides,
    make_example,
    make_project,
    slide_folders,
    stamp_of_list,
)
from cytoseg.workflows.recipe_text import COLOURS, GLASS, Wanted, base_model, class_colours

LISTED = 12
CLASSES = (("background", GLASS), ("cytoplasm", COLOURS[0]), ("nucleus", COLOURS[1]))
HELP = (
    "A project is a recipe (a text file that every command reads) and a run folder with all results. The class "
    "background, if there is one, is empty glass."
)


def _begin(make: Callable[[], Path]) -> None:
    """Create a project and continue with its crops."""
    try:
        run = make()
    except CytosegError as error:
        st.error(state.error_text(error), icon=":material/error:")
        return
    except OSError as error:
        st.error(f"The project cannot be written ({state.plain(error.strerror or type(error).__name__)}).")
        return
    st.session_state["run"] = run.name
    st.switch_page("pages/annotate.py")


def _folder() -> Path | None:
    roots = state.slide_roots()
    folders = slide_folders(roots)
    if not folders:
        told = ", ".join(f"`{root.resolve().name}`" for root in roots)
        st.info(f"No slides in {told}. Start the app with `cytoseg app --slides FOLDER`, or try the example.")
        return None
    above = [root.resolve() for root in roots]
    names = {path: _name(path, above) for path in folders}
    kept = {"key": "folder of slides", "persist_state": "session"}
    return st.selectbox("Folder of slides", folders, format_func=names.__getitem__, **kept)


def _name(path: Path, roots: list[Path]) -> str:
    root = next(root for root in roots if path.is_relative_to(root))
    return str(Path(root.name) / path.relative_to(root))


@st.cache_data(show_spinner="Opening slides", max_entries=8)
def _slides(folder: Path, stamp: tuple[object, ...]) -> tuple[list[ListedSlide], int]:
    return list_slides(folder, state.slide_roots(), max_slides=LISTED)


def _ask(folder: Path, slides: list[ListedSlide]) -> None:
    """Ask for name, pixel size and classes."""
    said = [slide.mpp for slide in slides if slide.mpp is not None]
    name = st.text_input("Name of the project", "mylab", max_chars=80, key="project name", persist_state="session")
    mpp = st.number_input(
        "Micrometres per pixel (0: as scanned)",
        0.0,
        20.0,
        round(max(said, default=0.0), 4),
        format="%.4f",
        key=f"mpp of {folder}",
        persist_state="session",
    )
    slide_cards.tell_sizes(slides, mpp or None)
    st.markdown(":small[Classes]")
    table = _ask_classes()
    st.caption("Type in the last row to add a class. Where the colour is empty, one is chosen.")
    pairs = [(str(row.Name).strip(), str(row.Colour or "").strip()) for row in table.itertuples() if row.Name]
    colours = {label: colour for label, colour in pairs if colour and colour != "None"}
    wanted = Wanted(mpp or None, [label for label, _ in pairs], colours, base_model())
    _show_colours(wanted)
    if st.button("Create the project", type="primary", icon=":material/play_arrow:"):
        project = Project(name, folder, wanted)
        _begin(functools.partial(make_project, project, state.base_folder(), state.slide_roots()))


def _ask_classes() -> pd.DataFrame:
    """Ask for names and colours in a table, which keeps what was typed when the page is left."""
    box, begun, typed = "classes of a new project", "classes begun with", "classes typed"
    if box not in st.session_state:  # the page was opened
        first = pd.DataFrame(CLASSES, columns=["Name", "Colour"])
        st.session_state[begun] = st.session_state.get(typed, first).reset_index(drop=True)
    table = st.data_editor(st.session_state[begun], num_rows="dynamic", hide_index=True, key=box)
    st.session_state[typed] = table
    return table


def _show_colours(wanted: Wanted) -> None:
    """Show the colours that the classes will have; an invalid one is named when the project is created."""
    pairs = class_colours(wanted)
    with contextlib.suppress(ValueError):
        widgets.legend([name for name, _ in pairs], [getrgb(colour) for _, colour in pairs], where="above")


def main() -> None:
    state.begin(needs_run=False)
    st.title("New project", help=HELP)
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Try an example", icon=":material/science:"):
            with st.spinner("Making slides"):
                _begin(functools.partial(make_example, state.base_folder()))
        st.caption("Generates four slides and a project to try everything: half a minute.")
    left, right = st.columns([1, 1.4], gap="medium")
    with left:
        folder = _folder()
    if folder is not None:
        stamp = state.guarded(lambda: stamp_of_list(folder, state.slide_roots(), max_slides=LISTED))
        slides, total = state.guarded(lambda: _slides(folder, stamp))
        with left:
            _ask(folder, slides)
        with right:
            slide_cards.show(slides, total)


main()
