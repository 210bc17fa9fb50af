"""One method in detail: its classes, slides, stains, objects, and how far its probabilities can be believed."""

import pandas as pd
import plotly.graph_objects as go
import state
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cytoseg.metrics.results import NOT_APPLICABLE, ConfidenceBin, Evaluation, MethodScores

INK, PERFECT = "#1c2430", "#8a8f98"


def unique(names: list[str]) -> list[str]:
    """Keep a class that is named like a column before it from taking its place."""
    return [name if names.index(name) == place else f"{name} (class)" for place, name in enumerate(names)]


def show(found: Evaluation, method: MethodScores) -> None:
    """Show all tables and charts of one method."""
    left, right = st.columns([1, 1], gap="large")
    with left:
        _classes(method)
        _objects(method)
    with right:
        _slides(found, method)
        _stains(found, method)
    _calibration(method)


def _classes(method: MethodScores) -> None:
    st.subheader("By class")
    rows = [(s.name, s.iou.value, s.dice, s.precision, s.recall, s.pixels) for s in method.classes]
    _scores(rows, ["Class", "IoU", "Dice", "Precision", "Recall", "True pixels"])


def _slides(found: Evaluation, method: MethodScores) -> None:
    st.subheader("By slide")
    head = unique(["Slide", "Crops", "Mean IoU", *found.class_names])
    _scores([(s.slide, s.crops, s.miou, *s.iou) for s in method.slides], head)


def _stains(found: Evaluation, method: MethodScores) -> None:
    if not method.stains:
        return
    st.subheader("By stain")
    rows = [
        (state.plain(s.stain), s.slides, s.miou.text(), *(scores.iou.text() for scores in s.classes))
        for s in method.stains
    ]
    head = unique(["Stain", "Slides", "Mean IoU", *found.class_names])
    table = pd.DataFrame(rows, columns=head).rename(columns=state.plain)
    st.table(table, border="horizontal", hide_index=True)
    st.caption("With the 95 % interval over the slides of the stain; a single slide gives none.")


def _objects(method: MethodScores) -> None:
    if not method.objects:
        return
    st.subheader("Objects")
    rows = [(s.name, s.truth, s.predicted, s.matched, s.precision, s.recall, s.f1, s.aji, s.pq) for s in method.objects]
    _scores(rows, ["Class", "True", "Predicted", "Matched", "Precision", "Recall", "F1", "AJI", "PQ"])
    st.caption("Counted as found where a predicted object and a true one share half of the area of both, or more.")


def _calibration(method: MethodScores) -> None:
    used = [entry for entry in method.bins if entry.pixels]
    if not used:
        return
    st.subheader("Can its probabilities be believed?")
    left, right = st.columns([1, 1], gap="large")
    left.plotly_chart(_diagram(used), config={"displayModeBar": False})
    _in_words(right, method)


def _diagram(bins: list[ConfidenceBin]) -> go.Figure:
    most = max(entry.pixels for entry in bins)
    chart = go.Figure(
        [
            go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": PERFECT, "dash": "dash"}, name="perfect"),
            go.Scatter(
                x=[entry.confidence for entry in bins],
                y=[entry.right for entry in bins],
                mode="lines+markers",
                marker={"size": [6 + 16 * (entry.pixels / most) ** 0.5 for entry in bins]},
                line={"color": state.METHOD_COLOURS[0]},
                name="found",
                hovertext=[
                    f"said {entry.confidence:.0%}, right {entry.right:.0%}, {entry.pixels:,} pixels" for entry in bins
                ],
                hoverinfo="text",
            ),
        ]
    )
    chart.update_layout(
        height=360,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"title": "Probability that it states", "range": [0, 1.02], "tickformat": ".0%"},
        yaxis={"title": "Share that is right", "range": [0, 1.02], "tickformat": ".0%"},
        showlegend=False,
        font={"size": 14, "color": INK},
    )
    return chart


def _in_words(where: DeltaGenerator, method: MethodScores) -> None:
    if method.ece is not None:
        where.metric("Calibration error (ECE)", f"{method.ece:.3f}")
    where.markdown(
        "Each point stands for the pixels to which it gave about the same probability; larger points for more pixels. "
        "On the dashed line it is right as often as it says. Below the line it promises too much, above it too little."
    )


def _scores(rows: list[tuple[object, ...]], head: list[str]) -> None:
    table = pd.DataFrame(rows, columns=head)
    whole = {"Crops", "True pixels", "True", "Predicted", "Matched"}
    shares = [name for place, name in enumerate(head) if place and name not in whole]
    table[shares] = table[shares].astype(float)
    formats = dict.fromkeys(shares, "{:.2f}") | dict.fromkeys(whole & set(head), "{:,}")
    st.dataframe(table.style.format(formats), hide_index=True, placeholder=NOT_APPLICABLE)
