"""Calibration and uncertainty of a method."""

import pandas as pd
import plotly.graph_objects as go
import state
import streamlit as st
import widgets
from streamlit.delta_generator import DeltaGenerator

from cytoseg.metrics.results import (
    MEASURES,
    ConfidenceBin,
    Evaluation,
    MethodScores,
    UncertaintyScores,
    fine_text,
    risk_table,
    share_text,
)
from cytoseg.metrics.risk import COVERAGES
from cytoseg.reporting.glossary import AURC, CALIBRATION, LEAST_CERTAIN

PERFECT = "#8a8f98"


def show(found: Evaluation, method: MethodScores) -> None:
    """Show calibration and uncertainty of one method, if measured."""
    _calibration(method)
    _uncertainty(found, method)


def _calibration(method: MethodScores) -> None:
    bins = method.calibration.bins if method.calibration else ()
    used = [entry for entry in bins if entry.pixels]
    if not used:
        return
    st.subheader("Is it calibrated?")
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
                line={"color": widgets.METHOD_COLOURS[0]},
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
        xaxis={"title": "Stated probability", "range": [0, 1.02], "tickformat": ".0%"},
        yaxis={"title": "Fraction correct", "range": [0, 1.02], "tickformat": ".0%"},
        showlegend=False,
        font={"size": 14, "color": widgets.ink()},
    )
    return chart


def _in_words(where: DeltaGenerator, method: MethodScores) -> None:
    if method.ece is not None:
        where.metric("Calibration error (ECE)", f"{method.ece:.3f}", help=state.plain(CALIBRATION))
    where.markdown(
        "Each point represents the pixels with about the same stated probability; larger points represent more pixels. "
        "On the dashed line the model is perfectly calibrated; below it the model is overconfident, above it "
        "underconfident."
    )


def _uncertainty(found: Evaluation, method: MethodScores) -> None:
    if not method.uncertainty:
        return
    st.subheader("Does the uncertainty find the errors?")
    left, right = st.columns([1, 1], gap="large")
    left.plotly_chart(_risks(method), config={"displayModeBar": False})
    for scores in method.uncertainty:
        _worth(right, scores)
    right.markdown(
        "From right to left the least certain pixels are excluded. Where a line falls quickly, the wrong "
        "pixels are excluded first."
    )
    head, rows = risk_table(method, found.class_names)
    table = pd.DataFrame(rows, columns=head)
    table[head[0]] = table[head[0]].map(state.plain)
    st.table(table, border="horizontal", hide_index=True)
    st.caption("Of the pixels predicted as each class.")


def _worth(where: DeltaGenerator, scores: UncertaintyScores) -> None:
    by, whole = MEASURES[scores.measure], scores.whole
    first, second = where.columns(2)
    first.metric(f"AURC by {by}", fine_text(whole.aurc), help=state.plain(AURC))
    first.caption(f"best {fine_text(whole.aurc_best)}, by chance {fine_text(whole.error)}")
    second.metric("Errors found in 5 %", share_text(whole.found), help=state.plain(LEAST_CERTAIN))


def _risks(method: MethodScores) -> go.Figure:
    chart = go.Figure(
        [
            go.Scatter(
                x=COVERAGES,
                y=scores.curve,
                mode="lines",
                line={"color": colour, "width": 2.5},
                name=MEASURES[scores.measure],
                hovertemplate="of %{x:.0%} of the pixels %{y:.2%} are wrong",
            )
            for scores, colour in zip(method.uncertainty, widgets.METHOD_COLOURS, strict=False)
        ]
    )
    chart.update_layout(
        height=360,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"title": "Pixels kept (most certain first)", "range": [0, 1.02], "tickformat": ".0%"},
        yaxis={"title": "Fraction wrong", "rangemode": "tozero", "tickformat": ".1%"},
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0},
        font={"size": 14, "color": widgets.ink()},
    )
    return chart
