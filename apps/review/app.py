"""The review app, and its first page: which commands made a run, and what its model and its annotations look like.

Started by ``cytoseg review``. The other pages stand in pages/, where Streamlit finds them.
"""

import contextlib
import functools
import os
from html import escape
from pathlib import Path

import listing
import pandas as pd
import state
import streamlit as st

from cytoseg.drawing.pictures import is_noise_file
from cytoseg.durations import duration_text
from cytoseg.errors import CytosegError
from cytoseg.evaluation.run_folder import CommandRecord, Provenance, read_provenance, time_text
from cytoseg.reporting import markup
from cytoseg.reporting.report import report_page

SHOWN_CHARACTERS = 100_000
"""So much of a recipe is shown; none that somebody wrote is as long."""

SAMPLES = "Samples are made up by the model: the more they look like cells of your slides, the better it knows them."
DENOISED = "Each row shows a crop with noise on it and what the model sees in it; the crop itself stands at its end."


def _row(entry: CommandRecord) -> dict[str, str]:
    return {
        "Command": entry.command,
        "Started": time_text(entry.started),
        "Finished": time_text(entry.finished),
        "Took": duration_text(entry.seconds),
        "Seed": "-" if entry.seed is None else str(entry.seed),
        "Outcome": entry.outcome_text,
    }


def _commands(provenance: Provenance | None) -> None:
    st.subheader("Commands")
    if provenance is None or not provenance.commands:
        state.missing("No command has been recorded in this run yet.", "cytoseg train-ddpm RECIPE")
        return
    st.dataframe(pd.DataFrame([_row(entry) for entry in provenance.commands]), hide_index=True)
    last = provenance.commands[-1]
    if last.versions:
        with st.expander(f"Versions used by the last command, {last.command}"):
            table = pd.DataFrame(sorted(last.versions.items()), columns=["Package", "Version"])
            st.dataframe(table, hide_index=True, width="content")


def _report(run: Path) -> str:
    """Make the report when it is asked for; what is wrong stands in it, for nobody would see it elsewhere."""
    try:
        return report_page(run)
    except CytosegError as error:
        return markup.page("No report", [f"<p>{escape(str(error))}</p>"])


def _files() -> None:
    run = state.run_folder()
    recipe = run / "recipe.yaml"
    # What may not be read, and what is no file, such as a pipe, is not offered.
    with contextlib.suppress(OSError):
        if os.path.isfile(recipe):
            with recipe.open(encoding="utf-8", errors="replace") as file:
                text = file.read(SHOWN_CHARACTERS + 1)
            with st.expander("Recipe"):
                st.code(text[:SHOWN_CHARACTERS], language="yaml")
                if len(text) > SHOWN_CHARACTERS:
                    st.caption(f"The first {SHOWN_CHARACTERS:,} characters of recipe.yaml.")
    if os.path.isfile(run / "evaluation" / "evaluation.json"):
        st.download_button(
            "Download the report (HTML)",
            functools.partial(_report, run),
            file_name=f"{run.resolve().name}-report.html",
            mime="text/html",
            icon=":material/download:",
        )


def _pictures() -> None:
    run = state.run_folder()
    st.subheader("Diffusion model")
    noise = is_noise_file(run / "ddpm" / "samples.png")
    st.caption(f"{DENOISED if noise else SAMPLES} The loss should fall and then level off.")
    left, right = st.columns(2, gap="medium")
    with left:
        name, caption = ("denoised.png", "Crops without their noise") if noise else ("samples.png", "Samples")
        state.picture(run / "ddpm" / name, caption, "cytoseg train-ddpm RECIPE")
    with right:
        state.picture(run / "ddpm" / "loss.png", "Training loss", "cytoseg train-ddpm RECIPE")
    st.subheader("Annotated crops")
    command = "cytoseg label-import SRC --recipe RECIPE"
    state.picture(run / "labels" / "contact_sheet.png", "The annotations as they were imported", command)


def main() -> None:
    if not state.guarded(state.known_runs):
        st.switch_page("pages/start.py")
    state.begin()
    st.title("Runs")
    st.dataframe(pd.DataFrame([listing.row(run) for run in state.all_runs()]), hide_index=True, placeholder="-")
    st.caption("In brackets the 95 % interval over test slides. A run whose classes differ has columns of its own.")
    run = state.run_folder()
    st.header(state.plain(run.resolve().name))
    provenance = state.guarded(lambda: read_provenance(run))
    if provenance is not None and provenance.recipe:
        st.caption(f"Created with the recipe {state.plain(provenance.recipe)}.")
    _commands(provenance)
    _files()
    _pictures()


main()
