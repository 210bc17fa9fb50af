"""Per-class IoU: every method beside the others, with intervals, and slide by slide."""

import details
import pandas as pd
import plotly.graph_objects as go
import state
import streamlit as st
import widgets
from streamlit.delta_generator import DeltaGenerator

from cytoseg.duration_text import duration_text
from cytoseg.metrics.results import NOT_APPLICABLE, Evaluation, MethodScores, Score, ensemble_of, score_rows, share_text
from cytoseg.reporting.glossary import GLOSSARY
from cytoseg.reporting.scores_csv import scores_csv

# At most this many numbers are on one line at the top.
PER_ROW = 5


def _headline(found: Evaluation) -> None:
    best = ensemble_of(found)
    assert best is not None
    st.markdown(
        f"**{state.plain(best.title)}**, trained with {found.train_crops} annotated crops, tested on "
        f"{found.test_crops} crops of {found.test_slides} other slides."
    )
    widgets.warn_of_corrected(found)
    entries = [("Mean IoU", best.miou), *((f"IoU {scores.name}", scores.iou) for scores in best.classes)]
    rows = -(-len(entries) // PER_ROW)
    per_row = -(-len(entries) // rows)
    for start in range(0, len(entries), per_row):
        for column, entry in zip(st.columns(per_row), entries[start : start + per_row], strict=False):
            _number(column, *entry)


def _number(column: DeltaGenerator, title: str, score: Score) -> None:
    interval = "no interval" if score.low is None or score.high is None else f"95 %: {score.low:.2f}-{score.high:.2f}"
    with column.container(border=True, height="stretch", gap=None):
        st.metric(state.plain(title), share_text(score.value))
        st.caption(interval)


def _table(found: Evaluation) -> None:
    st.subheader("Compared with the baselines")
    rows = [
        [*row, duration_text(method.train_s), duration_text(method.predict_s)]
        for row, method in zip(score_rows(found), found.methods, strict=True)
    ]
    head = ["Method", "Mean IoU", *found.class_names, "Training", "Prediction"]
    table = pd.DataFrame(rows, columns=details.unique(head))
    # A plain table, not a grid: few rows, and the numbers stay readable at any width.
    st.table(table.map(state.plain).rename(columns=state.plain), border="horizontal", hide_index=True)
    st.caption("IoU with its 95 % interval over test slides; n/a where a class does not occur.")
    about = "All scores of all methods as numbers: of all test crops, by slide and by stain; one line for each."
    widgets.offer_csv("Download as CSV", scores_csv(found), what="scores", about=about)


def _bar(method: MethodScores, names: list[str], colour: str) -> go.Bar:
    scores = [method.miou, *(entry.iou for entry in method.classes)]
    return go.Bar(
        name=method.title,
        x=names,
        y=[score.value for score in scores],
        marker_color=colour,
        error_y=details.error_bars(scores, width=5),
        hovertext=[f"{method.title}: {score.text()}" for score in scores],
        hoverinfo="text",
    )


def _chart(found: Evaluation) -> None:
    names = ["Mean", *found.class_names]
    colours = widgets.METHOD_COLOURS * len(found.methods)
    chart = go.Figure([_bar(method, names, colour) for method, colour in zip(found.methods, colours, strict=False)])
    chart.update_layout(
        barmode="group",
        height=380,
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
        xaxis={"tickfont": {"size": 14, "color": widgets.ink()}, "type": "category"},
        yaxis={"range": [0, 1.02], "title": "IoU", "tickfont": {"size": 13}},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        font_size=14,
    )
    scores = [method.classes for method in found.methods]
    for class_id, name in enumerate(found.class_names):
        if all(classes[class_id].iou.value is None for classes in scores):
            chart.add_annotation(
                x=name, y=0.04, text=NOT_APPLICABLE, showarrow=False, font={"size": 14, "color": widgets.ink()}
            )
    st.plotly_chart(chart, config={"displayModeBar": False})


def _details(found: Evaluation) -> None:
    titles = [method.title for method in found.methods]
    told = "The results below are of this method."
    title = st.selectbox("Method", titles, width=460, help=told, key="method", persist_state="session")
    details.show(found, found.methods[titles.index(title)])


def main() -> None:
    state.begin()
    st.title("Per-class IoU")
    found = state.evaluation()
    _headline(found)
    with st.expander("What do these words mean?", icon=":material/help:"):
        for word, meaning in GLOSSARY.items():
            st.markdown(f"**{state.plain(word)}**: {state.plain(meaning)}")
    _table(found)
    _chart(found)
    _details(found)


main()
