"""Details of one method: classes, slides, stains, objects."""

import certainty
import pandas as pd
import plotly.graph_objects as go
import state
import streamlit as st
import widgets

from cytoseg.metrics.results import NOT_APPLICABLE, Evaluation, MethodScores, Score

GRID = "rgba(138,143,152,.35)"
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down", "x")
"""Marker shapes, to distinguish classes without colour."""
MAX_SLIDES = 30
"""Most slides in the chart; the table lists all."""
_ROW_PX, _NAME_LENGTH = 26, 24


def unique(names: list[str]) -> list[str]:
    """Make column names unique if a class is named like another column."""
    return [name if names.index(name) == place else f"{name} (class)" for place, name in enumerate(names)]


def show(found: Evaluation, method: MethodScores) -> None:
    """Show all tables and charts of one method."""
    left, right = st.columns([1, 1], gap="large")
    with left:
        _classes(method)
    with right:
        _objects(method)
    _slides(found, method)
    _stains(found, method)
    certainty.show(found, method)


def _classes(method: MethodScores) -> None:
    st.subheader("By class")
    rows = [(s.name, s.iou.value, s.dice, s.precision, s.recall, s.pixels) for s in method.classes]
    _scores(rows, ["Class", "IoU", "Dice", "Precision", "Recall", "True pixels"])


def _slides(found: Evaluation, method: MethodScores) -> None:
    st.subheader("By slide")
    head = unique(["Slide", "Crops", "Mean IoU", *found.class_names])
    left, right = st.columns([1, 1], gap="large")
    with left:
        _scores([(s.slide, s.crops, s.miou, *s.iou) for s in method.slides], head)
    ordered = sorted(method.slides, key=lambda s: (s.miou is None, s.miou or 0.0, s.slide))[:MAX_SLIDES]
    rows = [(slide.slide, [Score(value) for value in slide.iou]) for slide in ordered]
    shown, count = len(ordered), len(method.slides)
    lines = f"The {shown} worst of {count} slides" if shown < count else "All slides"
    with right:
        st.plotly_chart(_dots(rows, found), config={"displayModeBar": False})
        st.caption(f"{lines}, the lowest mean IoU first; one mark for the IoU of each class present.")


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
    drawn = [(s.stain, [scores.iou for scores in s.classes]) for s in method.stains]
    st.plotly_chart(_dots(drawn, found), config={"displayModeBar": False})


def _shortened(name: str) -> str:
    """Drop the middle of a long name, because slides of one study often start alike."""
    return name if len(name) <= _NAME_LENGTH else f"{name[:8]}…{name[9 - _NAME_LENGTH :]}"


def _dots(rows: list[tuple[str, list[Score]]], found: Evaluation) -> go.Figure:
    """Draw the IoU of each class per slide or stain; with intervals, the classes are offset."""
    spread = any(score.low is not None for _, scores in rows for score in scores)
    height_px = _ROW_PX * max(1, len(found.class_names) * 2 // 3) if spread else _ROW_PX
    chart = go.Figure([_marks(rows, found, class_id, spread=spread) for class_id in range(len(found.class_names))])
    ticks = {"size": 13, "color": widgets.ink()}
    chart.update_layout(
        height=110 + height_px * len(rows),
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"title": "IoU", "range": [-0.02, 1.02], "dtick": 0.2, "gridcolor": GRID, "tickfont": ticks},
        yaxis={
            "tickvals": list(range(len(rows))),
            "ticktext": [_shortened(name) for name, _ in rows],
            "range": [len(rows) - 0.4, -0.6],  # the first on top
            "gridcolor": GRID,
            "zeroline": False,
            "tickfont": ticks,
        },
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0, "itemclick": False, "itemdoubleclick": False},
        font={"size": 14, "color": widgets.ink()},
    )
    return chart


def _marks(rows: list[tuple[str, list[Score]]], found: Evaluation, class_id: int, *, spread: bool) -> go.Scatter:
    count, name = len(found.class_names), found.class_names[class_id]
    shift = 0.6 * ((class_id + 0.5) / count - 0.5) if spread else 0.0
    kept = [(place, row, scores[class_id]) for place, (row, scores) in enumerate(rows)]
    kept = [(place, row, score) for place, row, score in kept if score.value is not None]
    red, green, blue = found.colours[class_id]
    return go.Scatter(
        x=[score.value for _, _, score in kept],
        y=[place + shift for place, _, _ in kept],
        mode="markers",
        name=name,
        showlegend=True,
        marker={
            "symbol": SYMBOLS[class_id % len(SYMBOLS)],
            "size": 11,
            "color": f"rgb({red},{green},{blue})",
            "line": {"width": 1.5, "color": widgets.ink()},
        },
        error_x=error_bars([score for _, _, score in kept], width=4),
        hovertext=[f"{row}, {name}: {score.text()}" for _, row, score in kept],
        hoverinfo="text",
    )


def error_bars(scores: list[Score], *, width: int) -> dict[str, object]:
    """Return the 95 % intervals of scores for plotly; length 0 if there is none."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [_reach(score, score.high) for score in scores],
        "arrayminus": [_reach(score, score.low) for score in scores],
        "color": widgets.ink(),
        "thickness": 1.3,
        "width": width,
    }


def _reach(score: Score, end: float | None) -> float:
    return 0.0 if score.value is None or end is None else abs(end - score.value)


def _objects(method: MethodScores) -> None:
    if not method.objects:
        return
    st.subheader("Objects")
    rows = [
        (name, s.truth, s.predicted, s.matched, s.precision, s.recall, s.f1, s.aji, s.pq)
        for name, s in method.objects.items()
    ]
    _scores(rows, ["Class", "True", "Predicted", "Matched", "Precision", "Recall", "F1", "AJI", "PQ"])
    st.caption("Counted as found where a predicted object and a true one share half of the area of both, or more.")


def _scores(rows: list[tuple[object, ...]], head: list[str]) -> None:
    table = pd.DataFrame(rows, columns=head)
    whole = {"Crops", "True pixels", "True", "Predicted", "Matched"}
    shares = [name for place, name in enumerate(head) if place and name not in whole]
    table[shares] = table[shares].astype(float)
    formats = dict.fromkeys(shares, "{:.2f}") | dict.fromkeys(whole & set(head), "{:,}")
    st.dataframe(table.style.format(formats), hide_index=True, placeholder=NOT_APPLICABLE)
