"""History: changes since an earlier evaluation and their possible causes."""

from collections.abc import Sequence
from pathlib import Path

import listing
import pandas as pd
import plotly.graph_objects as go
import state
import streamlit as st
import widgets

from cytoseg.errors import CytosegError
from cytoseg.evaluation.history import Comparison, LabelChange, ScoreChange, compare_snapshots, snapshot_files
from cytoseg.evaluation.run_folder import moment_of
from cytoseg.metrics.results import NOT_APPLICABLE

# Colour-blind safe, and distinguished by sign.
BETTER, WORSE = "#0072b2", "#d55e00"


def _earlier(created: str) -> dict[str, Path]:
    """List all evaluations older than the current one, its own run's first."""
    found: dict[str, Path] = {}
    own, now = state.run_folder().resolve(), moment_of(created)
    for run in sorted(state.all_runs(), key=lambda run: run.resolve() != own):
        for path in snapshot_files(run):
            try:
                entry = listing.entry(run, path)
            except CytosegError:
                continue
            if now is not None and entry.moment is not None and entry.moment < now:
                found[entry.title if entry.title not in found else f"{entry.title} ({path.stem})"] = path
    return found


def _difference(change: ScoreChange) -> str:
    return NOT_APPLICABLE if change.difference is None else f"{change.difference:+.2f}"


def _changes(changes: Sequence[ScoreChange], what: str) -> None:
    rows = [(state.plain(c.name), c.before.text(), c.after.text(), _difference(c)) for c in changes]
    st.table(pd.DataFrame(rows, columns=[what, "Before", "Now", "Change"]), border="horizontal", hide_index=True)


def _chart(comparison: Comparison) -> None:
    changes = [comparison.mean, *comparison.classes]
    values = [change.difference or 0.0 for change in changes]
    chart = go.Figure(
        go.Bar(
            x=values,
            y=[change.name for change in changes],
            orientation="h",
            marker_color=[BETTER if value >= 0 else WORSE for value in values],
            text=[_difference(change) for change in changes],
            textfont_size=14,
            hoverinfo="skip",
        )
    )
    reach = max(0.05, *(1.35 * abs(value) for value in values))
    line = {"zeroline": True, "zerolinecolor": widgets.ink()}
    chart.update_layout(
        height=90 + 42 * len(changes),
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"title": "Change of the IoU", "range": [-reach, reach], **line},
        yaxis={"autorange": "reversed", "type": "category", "tickfont": {"size": 14, "color": widgets.ink()}},
        font_size=14,
    )
    st.plotly_chart(chart, config={"displayModeBar": False})


def _labels(title: str, change: LabelChange) -> None:
    st.markdown(f"**{title}**: {change.text()}")
    lists = (("Added", change.added), ("Removed", change.removed), ("Marked otherwise", change.changed))
    for what, crops in lists:
        if crops:
            with st.expander(f"{what}: {len(crops)}"):
                st.dataframe(pd.DataFrame({"Crop": crops}), hide_index=True)


def _slides(comparison: Comparison) -> None:
    st.subheader("By slide")
    if not comparison.slides:
        st.caption("No slide was tested both times.")
        return
    ordered = sorted(comparison.slides, key=lambda c: (c.difference is None, c.difference or 0.0))
    st.caption("Mean IoU of the slides that were tested both times; the largest losses first.")
    _changes(ordered, "Slide")


def _why(comparison: Comparison) -> None:
    st.subheader("What differs")
    _labels("Crops trained with", comparison.train_labels)
    _labels("Crops tested on", comparison.test_labels)
    if comparison.settings:
        table = pd.DataFrame(comparison.settings, columns=["Setting", "Before", "Now"])
        st.dataframe(table, hide_index=True)
    else:
        st.markdown("**Settings**: the same")


def _compare(path: Path) -> None:
    now = state.run_folder() / "evaluation" / "evaluation.json"
    comparison = compare_snapshots(state.snapshot_of(path), state.snapshot_of(now))
    st.markdown("  \n".join(map(state.plain, comparison.sentences())))
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("By class")
        _changes([comparison.mean, *comparison.classes], "Class")
        st.caption("In brackets the 95 % interval over slides: a change much smaller than it may be chance.")
    with right:
        st.subheader("Change")
        _chart(comparison)
    left, right = st.columns(2, gap="large")
    with left:
        _slides(comparison)
    with right:
        _why(comparison)


def main() -> None:
    state.begin()
    st.title("What changed")
    found = state.evaluation()
    widgets.warn_of_corrected(found)
    earlier = _earlier(found.created)
    if not earlier:
        st.info(
            "There is no earlier evaluation to compare with. Annotate more, train and evaluate again: the evaluation "
            "of today is kept.",
            icon=":material/info:",
        )
        state.link_to("pages/annotate.py")
        st.stop()
    chosen = state.select(st.container(width=640), "Compare with", list(earlier), key="earlier")
    state.guarded(lambda: _compare(earlier[chosen]))


main()
