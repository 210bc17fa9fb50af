"""Predict: choose slides, predict them, view and download results."""

import approvals
import exports
import jobs_list
import reviews
import state
import streamlit as st
import tiles

from cytoseg.evaluation.run_folder import is_of_another_model
from cytoseg.predict.sign_off_file import bundle_of
from cytoseg.viewer.slide_catalogue import CatalogueEntry

HELP = (
    "Every pixel of the chosen slides gets a class, and the objects, such as nuclei, are found and measured. Slides "
    "that this model has already finished are not repeated."
)
_ROWS = 12
ICON = ":material/info:"
GONE = (
    "Not listed ({count}): {names}. Each slide was moved, deleted or replaced after its prediction. Restore it, or "
    "predict it again. The page Slides still shows its preview."
)


def _choose(slides: dict[str, CatalogueEntry], author: str) -> None:
    key = f"slides of {state.run_folder()}"
    new = [name for name, found in slides.items() if found.prediction is None]

    def all_new() -> None:
        st.session_state[key] = new

    chosen = st.multiselect(
        "Slides", list(slides), key=key, placeholder="Choose slides to predict", persist_state="session"
    )
    with st.container(horizontal=True):
        st.button(
            "Predict",
            type="primary",
            icon=":material/play_arrow:",
            on_click=jobs_list.start,
            args=("predict", author, tuple(chosen)),
            disabled=not (author and chosen),
            help=None if author and chosen else "Choose slides first." if author else "Type your name first.",
        )
        st.button(f"Choose all that are not predicted ({len(new)})", on_click=all_new, disabled=not new)


def _results(slides: dict[str, CatalogueEntry]) -> None:
    done = {name: found for name, found in slides.items() if found.prediction is not None}
    st.subheader(f"Predicted slides ({len(done)})")
    if not done:
        st.caption("None yet: choose slides above and press Predict.")
        return
    run = state.run_folder()
    said = approvals.verdicts(run)
    folders = {name: found.prediction for name, found in done.items() if found.prediction}
    with st.container(horizontal=True):
        exports.show_run_downloads(run, folders, said)
        approvals.download(run, {name: bundle_of(folder) for name, folder in folders.items()})
    pages = -(-len(done) // _ROWS)
    page = st.pagination(pages, key=f"page of predicted {run}", persist_state="session") if pages > 1 else 1
    for name, found in list(done.items())[(page - 1) * _ROWS : page * _ROWS]:
        assert found.prediction is not None
        with st.container(border=True):
            with st.container(horizontal=True, vertical_alignment="center"):
                verdict = approvals.sign_off_text(said.get(name), found.prediction)
                st.markdown(f"**{state.plain(name)}**: {state.plain(verdict)}", width="stretch")
                if st.button("Open the slide", key=f"look {name}", icon=":material/visibility:"):
                    st.session_state["slide"] = name
                    st.switch_page("pages/slides.py")
            if is_of_another_model(run, found.prediction):
                st.caption(f":material/info: {approvals.ANOTHER_MODEL}")
            with st.container(horizontal=True):
                exports.show_downloads(run, name, found.prediction)


def main() -> None:
    state.begin()
    st.title("Predict", help=HELP)
    run = state.run_folder()
    jobs_list.show_result()
    listed = state.guarded(lambda: tiles.catalogue(run))
    left, right = st.columns([1, 1.2], gap="medium")
    with left:
        author = reviews.reviewer()
        if not (run / "interpreter" / "bundle").is_dir():
            state.missing("This run has no model yet: annotate crops and train.", "cytoseg train-interpreter RECIPE")
        if listed.slides:
            _choose(listed.slides, author)
        else:
            st.info("The folders of the recipe hold no slides. Put slides there, or begin with others.", icon=ICON)
            state.link_to("pages/new_project.py")
    with right:
        jobs_list.show(("predict",))
    _results(listed.slides)
    if listed.gone:
        names = ", ".join(listed.gone[:5]) + (" ..." if len(listed.gone) > 5 else "")
        st.warning(state.plain(GONE.format(count=len(listed.gone), names=names)), icon=":material/warning:")


main()
