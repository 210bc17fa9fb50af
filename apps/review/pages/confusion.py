"""Confusion matrix: which classes are confused."""

import plotly.graph_objects as go
import state
import streamlit as st
import widgets

from cytoseg.metrics.results import NOT_APPLICABLE, column_shares, row_shares

VIEWS = {
    "Share of the true class": "Each row adds up to 100 %: where the pixels of a true class went. Diagonal: recall.",
    "Share of the prediction": "Each column adds up to 100 %: the true class of its pixels. Diagonal: precision.",
    "Pixels": "Numbers of pixels, tinted by their share of the true class.",
}
Cells = list[list[float | None]]
_WIDTH_PX, _CELL_PX, _LEAST_PX = 720, 180, 56
"""Width of all cells on the smallest screen, and the most and least of one."""
_NAME_LENGTH = 24


def _percent(value: float | None) -> str:
    return NOT_APPLICABLE if value is None else f"{100 * value:.1f} %"


def _figure(names: list[str], tint: Cells, texts: list[list[str]]) -> go.Figure:
    # The colour scale ends before it gets as dark as black, so that dark and white letters both stay readable.
    chart = go.Figure(
        go.Heatmap(
            z=tint,
            x=names,
            y=names,
            text=texts,
            texttemplate="%{text}",
            textfont_size=16 if len(names) <= _WIDTH_PX // 90 else 12,
            colorscale=[[0, "#f3f7fb"], [0.5, "#7fb3d8"], [1, "#00558c"]],
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=3,
            ygap=3,
            hovertemplate="truly %{y}, predicted %{x}: %{text}<extra></extra>",
        )
    )
    ticks = {"size": 14, "color": widgets.ink()}
    short = [name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…" for name in names]
    labels = {"type": "category", "tickvals": names, "ticktext": short, "showgrid": False, "tickfont": ticks}
    side_px = max(_LEAST_PX, min(_CELL_PX, _WIDTH_PX // len(names)))
    chart.update_layout(
        height=110 + max(_LEAST_PX, side_px // 2) * len(names),
        width=190 + side_px * len(names),
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"title": "Predicted", "side": "top", **labels},
        yaxis={"title": "Ground truth", "autorange": "reversed", **labels},
        font_size=15,
    )
    return chart


def main() -> None:
    state.begin()
    st.title("Confusion matrix")
    found = state.evaluation()
    widgets.warn_of_corrected(found)
    titles = [method.title for method in found.methods]
    left, right = st.columns([1, 2], gap="medium")
    title = left.selectbox("Method", titles, key="confused method", persist_state="session")
    view = right.segmented_control(
        "Show", list(VIEWS), default=next(iter(VIEWS)), required=True, key="confusion shown", persist_state="session"
    )
    confusion = found.methods[titles.index(title)].confusion
    tint = column_shares(confusion) if view == "Share of the prediction" else row_shares(confusion)
    if view == "Pixels":
        texts = [[f"{count:,}" for count in row] for row in confusion]
    else:
        texts = [[_percent(value) for value in row] for row in tint]
    st.caption(VIEWS[view])
    st.plotly_chart(_figure(list(found.class_names), tint, texts), width="content", config={"displayModeBar": False})


main()
