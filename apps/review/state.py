"""Shared state of the pages: chosen run, cached files, messages."""

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cytoseg.errors import CytosegError
from cytoseg.evaluation.history import Snapshot, read_snapshot
from cytoseg.evaluation.results_file import read_evaluation
from cytoseg.evaluation.run_folder import find_runs, is_run, readable
from cytoseg.metrics.results import Evaluation

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><circle cx="12" cy="12" r="11" fill="#0072b2"/>'
    '<circle cx="14" cy="11" r="4" fill="#fff"/></svg>'
)
"""Page icon of a cell. Streamlit's own icons would be fetched from a remote server."""

Value = TypeVar("Value")

TEXT_PX = 1640
"""Largest width of forms, tables and charts."""
TEXT_WIDTH = f"{(TEXT_PX + 80) / 16}rem"
PICTURE_WIDTH = f"max({TEXT_WIDTH},80vw)"
"""Largest widths of a page of those, and of one with an image: on a 4k screen the image gets most of it."""


PAGES = {
    "": [("app.py", "Runs", "folder_open"), ("pages/new_project.py", "New project", "add_circle")],
    "Work": [
        ("pages/annotate.py", "Annotate", "brush"),
        ("pages/queue.py", "Annotate next", "add_task"),
        ("pages/two_people.py", "Two people", "group"),
        ("pages/predict.py", "Predict", "play_circle"),
        ("pages/slides.py", "Slides", "splitscreen_landscape"),
        ("pages/anomalies.py", "Anomalies", "warning"),
        ("pages/jobs.py", "Jobs", "list_alt"),
    ],
    "Scores": [
        ("pages/iou.py", "Per-class IoU", "bar_chart"),
        ("pages/confusion.py", "Confusion matrix", "grid_on"),
        ("pages/history.py", "What changed", "history"),
    ],
    "Test crops": [
        ("pages/gallery.py", "Gallery", "photo_library"),
        ("pages/crop.py", "Crop view", "center_focus_strong"),
        ("pages/correct.py", "Correct", "edit"),
    ],
}
"""Our own list of pages, because Streamlit names pages after files; .streamlit/config.toml hides its list."""


MADE_ON = {
    "train-ddpm": "pages/jobs.py",
    "evaluate": "pages/jobs.py",
    "train-interpreter": "pages/annotate.py",
    "label-import": "pages/annotate.py",
    "predict": "pages/predict.py",
}
"""Pages that start the work of a command."""


def begin(*, needs_run: bool = True, max_width: str = TEXT_WIDTH) -> None:
    """Start a page: layout, list of pages and choice of the run; end it if a required run is missing.

    Args:
        needs_run: Whether the page has nothing to show without a run.
        max_width: Of the page; ``PICTURE_WIDTH`` where images are drawn on or compared.
    """
    st.set_page_config(page_title="cytoseg review", page_icon=ICON, layout="wide")
    _style(max_width)
    with st.sidebar:
        st.markdown("### cytoseg review")
        chosen = st.container()
        for section, pages in PAGES.items():
            if section:
                st.caption(section)
            for path, title, icon in pages:
                st.page_link(path, label=title, icon=f":material/{icon}:")
    _choose_run(chosen, needs_run=needs_run)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Show during the block that a page loads its libraries, for seconds on the first visit.

    Pages import them after their title, or nothing would be painted until then.
    """
    with contextlib.nullcontext() if "skimage" in sys.modules else st.spinner("Loading the page: only once"):
        yield


def _style(max_width: str) -> None:
    st.html(
        # From 2560 px on, letters grow with the width: at 16 px they are too small on a 4k screen that is not scaled.
        "<style>html{font-size:max(16px,.625vw)!important}"
        # Without its list of pages, Streamlit's head of 3.75 rem covers what is below it.
        f"[data-testid='stMainBlockContainer']{{padding:3.75rem 2.5rem 4rem;max-width:{max_width}}}"
        "[data-testid='stCaptionContainer'] p,[data-testid='stMarkdown'] p{max-width:56rem}"  # lines that can be read
        "[data-testid='stMain'] [data-testid='stAlert']{max-width:64rem}"
        "h1{font-size:1.9rem!important;padding-top:0!important}"
        "h2{font-size:1.5rem!important}h3{font-size:1.2rem!important;padding-top:.6rem!important}"
        ".swatch{display:inline-block;width:.9em;height:.9em;border-radius:3px;margin:0 .45em -1px 0;"
        "border:1px solid rgba(0,0,0,.35)}"
        "[data-testid='stSidebarHeader']{height:2.6rem;padding-bottom:0}"  # all pages without scrolling at 800 px
        "[data-testid='stSidebarUserContent'] [data-testid='stVerticalBlock']{gap:.45rem}"
        "[class*='st-key-typed-name']{position:absolute}"  # it draws nothing, and takes no room
        # Streamlit fades what a running script has not drawn again yet: the editor with each stroke, and the list of
        # jobs whenever it is refreshed.
        "[class*='st-key-steady'] [data-stale='true']{opacity:1!important}"
        # Streamlit's grey has too little contrast, 2.5 to 1, and so has white on the blue of the dark theme.
        ".soft{font-size:.875rem}"
        ".soft,[data-testid='stCaptionContainer'],[data-testid='stCaptionContainer'] *,[data-testid='stImageCaption'],"
        "[data-testid='stImageCaption'] *{color:light-dark(#5a6675,#a9b4c2)!important;opacity:1!important}"
        # All of a crop without scrolling; the rest of the page above it takes 12 rem.
        "[class*='st-key-whole-crop'] img{max-height:max(16rem,100vh - 13rem);object-fit:contain;object-position:0 0}"
        # The same for two crops and the buttons that decide between them.
        "[class*='st-key-whole-conflict'] img{max-height:max(24rem,100vh - 46rem);object-fit:contain;"
        "object-position:0 0}"
        # All thumbnails in squares: of a strip, the whole height would fill the page.
        "[class*='st-key-thumbnails'] img{aspect-ratio:1;object-fit:contain;object-position:0 100%}"
        # At 200 % a table of scores fits: keys do not scroll it.
        "@media (max-width:800px){[data-testid='stTable'] :is(td,th),[data-testid='stTable'] :is(td,th) *"
        "{white-space:normal!important;font-size:.75rem!important}"
        "[data-testid='stTable'] :is(td,th){padding:.2rem .25rem!important}}"
        "[data-testid='stMain'] button kbd{color:inherit!important;opacity:1!important}"
        "[data-testid='stWidgetLabel'],[data-testid='stWidgetLabel'] *{color:light-dark(#1c2430,#e8ecf1)!important}"
        "[data-testid='stBaseButton-primary']:enabled,[data-testid='stBaseButton-primary']:enabled *,"
        "[data-testid='stMultiSelect'] [data-tag],[data-testid='stMultiSelect'] [data-tag] *"
        "{color:light-dark(#fff,#0b1016)!important}</style>"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--runs", type=Path, default=Path(os.environ.get("CYTOSEG_RUNS", "runs")))
    parser.add_argument("--run", type=Path)
    parser.add_argument("--log")
    parser.add_argument("--base", type=Path, default=Path())
    parser.add_argument("--slides", type=Path, action="append")
    return parser.parse_known_args(sys.argv[1:])[0]


def log_url() -> str | None:
    """Return the address of the reviewers' log that the recipe names; None for one in each run folder."""
    named = _arguments().log
    return None if named is None else str(named)


def base_folder() -> Path:
    """Return the base folder of relative paths in recipes: where the review was started."""
    base = _arguments().base
    assert isinstance(base, Path)
    return base


def slide_roots() -> list[Path]:
    """Return the slide folders for new projects: --slides, or where the app was started."""
    named = _arguments().slides
    return list(named) if named else [base_folder()]


def known_runs() -> list[Path]:
    """List all run folders: first the one named on the command line, then by date."""
    given = _arguments()
    runs = find_runs(given.runs)
    if given.run is not None and is_run(given.run):
        first = given.run.resolve()
        runs = [given.run, *(run for run in runs if run.resolve() != first)]
    return runs


def _choose_run(where: DeltaGenerator, *, needs_run: bool) -> None:
    runs = guarded(known_runs)
    if not runs and not needs_run:
        return
    if not runs:
        st.title("No runs yet")
        st.info(
            "There is no run yet. Start a new project here, or train a model in a terminal: "
            "`cytoseg train-ddpm RECIPE`, where RECIPE is your recipe file.",
            icon=":material/info:",
        )
        link_to("pages/new_project.py")
        st.stop()
    names = [run.resolve().name for run in runs]
    chosen = select(where, "Run", names, key="run")
    st.session_state["folder"] = runs[names.index(chosen)]
    st.session_state["runs"] = runs


def show_in(box: str, value: str) -> None:
    """Set a field before it is drawn, unless it shows the value: setting it on each run loses what is being typed.

    A field of the same key on another page is another field, which begins empty.
    """
    context = get_script_run_ctx()
    page, drawn = context and context.page_script_hash, f"{box} page"
    if st.session_state.get(box) != value or st.session_state.get(drawn) != page:
        st.session_state[box] = value
    st.session_state[drawn] = page


def select(where: DeltaGenerator, label: str, options: Sequence[str], *, key: str) -> str:
    """Show a select box whose value persists across pages; other code may set it by its key."""
    box = f"{key} box"
    kept = st.session_state.get(key)
    show_in(box, kept if kept in options else options[0])

    def keep() -> None:
        st.session_state[key] = st.session_state[box]

    chosen = where.selectbox(label, options, key=box, on_change=keep)
    st.session_state[key] = chosen
    return str(chosen)


def run_folder() -> Path:
    """Return the folder of the chosen run."""
    folder = st.session_state["folder"]
    assert isinstance(folder, Path)
    return folder


def all_runs() -> list[Path]:
    """Return the folders of all selectable runs, in the order of the list."""
    return list(st.session_state["runs"])


# Results are frozen and shared by all visitors: copying 5,000 crops for each would be slow.
@lru_cache(maxsize=16)
def _read(run: Path, written_ns: int) -> Evaluation | None:
    return read_evaluation(run)


def evaluation_of(run: Path) -> Evaluation | None:
    """Read the evaluation of any run, cached per version of the file; None if there is none."""
    path = run / "evaluation" / "evaluation.json"
    with readable(path.name):
        return _read(run, path.stat().st_mtime_ns) if path.is_file() else None


@lru_cache(maxsize=16)
def _snapshot(path: Path, written_ns: int) -> Snapshot:
    return read_snapshot(path)


def snapshot_of(path: Path) -> Snapshot:
    """Read an evaluation with its labels and settings, cached; see ``read_snapshot``."""
    with readable("evaluation.json"):
        return _snapshot(path, path.stat().st_mtime_ns)


def evaluation() -> Evaluation:
    """Return the evaluation of the chosen run, or show what to do and end the page."""
    found = guarded(lambda: evaluation_of(run_folder()))
    if found is None:
        missing("This run has not been evaluated yet, so there is nothing to show here.", "cytoseg evaluate RECIPE")
        st.stop()
    if not found.methods:
        missing("The evaluation of this run holds no method.", "cytoseg evaluate RECIPE")
        st.stop()
    return found


def evaluation_of_crops() -> Evaluation:
    """Return the evaluation of the chosen run, or say that it holds no crop and end the page."""
    found = evaluation()
    if not found.crops:
        missing("The evaluation of this run holds no crop.", "cytoseg evaluate RECIPE")
        st.stop()
    return found


def guarded(read: Callable[[], Value]) -> Value:
    """Read something; if its file is damaged or unreadable, show a message and end the page."""
    try:
        return read()
    except CytosegError as error:
        sentence = error_text(error)
    except OSError as error:
        what = plain(Path(str(error.filename or "a file of this run")).name)
        sentence = f"{what}: cannot be read or written ({error.strerror or type(error).__name__})."
    st.error(sentence, icon=":material/error:")
    st.stop()


def error_text(error: CytosegError | str) -> str:
    """Format an error for a page, with absolute paths reduced to their last name for privacy."""
    return plain(short(error))


def short(error: BaseException | str) -> str:
    """Reduce the absolute paths in a message to their last name."""
    return re.sub(r"(?<![\w.])/(?:[^/\n:]+/)+", "", str(error))


def missing(sentence: str, command: str) -> None:
    """Show that something is missing, a link to the page where it is made, and the command that makes it."""
    page = MADE_ON.get(command.split()[1])
    first = "Use the page below, or in a terminal" if page else "In a terminal, run"
    st.info(f"{sentence} {first} `{command}`, where RECIPE is the recipe file of this run.", icon=":material/info:")
    if page:
        link_to(page)


def link_to(page: str) -> None:
    """Show a link to a page, with its title and icon."""
    title, icon = next((title, icon) for pages in PAGES.values() for path, title, icon in pages if path == page)
    st.page_link(page, label=title, icon=f":material/{icon}:")


def plain(text: str) -> str:
    """Escape Markdown in external text, such as a class name."""
    return re.sub(r"([\\`*_{}\[\]()#+.!$:~<>|-])", r"\\\1", text)
