"""New project: choose a folder of slides and name the classes."""

import functools
from collections.abc import Callable
from pathlib import Path

import class_table
import slide_cards
import state
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

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
from cytoseg.workflows.recipe_text import Wanted, base_model

LISTED = 12
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


def _ask(folder: Path, slides: list[ListedSlide], about_sizes: DeltaGenerator) -> None:
    """Ask for name, pixel size and classes.

    Args:
        folder: The folder of slides.
        slides: Its first slides.
        about_sizes: Where to say what the sizes of the slides mean for the project.
    """
    said = [slide.mpp for slide in slides if slide.mpp is not None]
    left, right = st.columns(2)  # so that the button below is seen without scrolling
    name = left.text_input("Name of the project", "mylab", max_chars=80, key="project name", persist_state="session")
    mpp = right.number_input(
        "µm per pixel (0: as scanned)",
        0.0,
        20.0,
        round(max(said, default=0.0), 4),
        format="%.4f",
        key=f"mpp of {folder}",
        persist_state="session",
    )
    with about_sizes:
        slide_cards.tell_sizes(slides, mpp or None)
    st.markdown(":small[Classes]")
    names, colours = class_table.ask()
    wanted = Wanted(mpp or None, names, colours, base_model())
    class_table.show_colours(wanted)
    if st.button("Create the project", type="primary", icon=":material/play_arrow:"):
        project = Project(name, folder, wanted)
        _begin(functools.partial(make_project, project, state.base_folder(), state.slide_roots()))


def main() -> None:
    state.begin(needs_run=False)
    st.title("New project", help=HELP)
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Try an example", icon=":material/science:"):
            with st.spinner("Making slides"):
                _begin(functools.partial(make_example, state.base_folder()))
        st.caption("Generates four slides and a project to try everything: half a minute.")
    left, right = st.columns(2, gap="medium")
    with left:
        folder = _folder()
    if folder is not None:
        stamp = state.guarded(lambda: stamp_of_list(folder, state.slide_roots(), max_slides=LISTED))
        slides, total = state.guarded(lambda: _slides(folder, stamp))
        with left:
            _ask(folder, slides, right.container())
        with right:
            slide_cards.show(slides, total)


main()
