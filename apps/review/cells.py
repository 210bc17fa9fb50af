"""Objects of a predicted slide: counts by class, a chart to choose from, and the one that was clicked."""

import math
from collections.abc import Mapping
from functools import lru_cache, partial
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import state
import streamlit as st
import tiles
import viewer
import widgets

from cytoseg.classes import ClassList
from cytoseg.csv_table import original
from cytoseg.errors import CytosegError
from cytoseg.geometry import Region
from cytoseg.objects.object_writer import CELLS
from cytoseg.viewer.deep_zoom import jpeg
from cytoseg.viewer.picked_object import object_at, object_picture
from cytoseg.viewer.slide_catalogue import CatalogueEntry
from cytoseg.viewer.tile_service import SlideView

X, Y, DENSITY = "centroid_x_level0_px", "centroid_y_level0_px", "optical_density_mean"
MAX_POINTS = 5000
"""Most objects in the chart; of more, a random sample with a fixed seed."""
MAX_ROWS = 200
MOST_DECADES = 3
"""Decades of areas up to which the axis also has numbers between the powers of ten."""
_LARGEST = 2**31
"""No place, area or density of an object reaches it."""
_UNITS = {
    "_level0_px": " on the slide (px)",
    "_px": " (px)",
    "_um2": " (µm²)",
    "_um": " (µm)",
    "_8bit": " (0 to 255)",
    "_nats": " (nats)",
}
"""Ends of column names, the longer first, and how they are shown."""
_AROUND = 3.0
"""Width of an object's image in diameters."""


def table_of(prediction: Path) -> pd.DataFrame | None:
    """Read the objects of a predicted slide, cached per version of the file; None if there are none.

    Raises:
        CytosegError: If cells.csv is damaged.
    """
    path = prediction / CELLS
    return _read(path, path.stat().st_mtime_ns) if path.is_file() else None


# A table of a whole slide has a million rows.
@lru_cache(maxsize=2)
def _read(path: Path, written_ns: int) -> pd.DataFrame:
    try:
        found = pd.read_csv(path, dtype={"class": str, "id": int})
        # Read on its own, or a class named NA would be a missing value.
        names = pd.read_csv(path, usecols=["class"], dtype=str, keep_default_na=False)["class"]
        found["class"] = names.map({name: original(name) for name in names.unique()})
        area = area_column(found)
        for column in ("id", X, Y, area, DENSITY):
            found[column] = pd.to_numeric(found[column])
        measured = found[[X, Y, area, DENSITY]].to_numpy(float)
        if not (np.abs(measured) < _LARGEST).all() or (found[area] < 0).any():  # NaN is not below it either
            raise ValueError("no measurement")
    except (ValueError, KeyError, OverflowError, OSError) as error:
        raise CytosegError(f"{CELLS}: is damaged ({type(error).__name__}). Predict the slide again.") from error
    return found


def area_column(table: pd.DataFrame) -> str:
    """Return the column of the area: in µm² if the pixel size is known."""
    return "area_um2" if "area_um2" in table.columns else "area_px"


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Count the objects of each class, with medians of area and optical density."""
    area = area_column(table)
    rows = table.groupby("class", sort=True).agg(n=("id", "size"), area=(area, "median"), density=(DENSITY, "median"))
    rows = rows.reset_index()
    titles = {"area": f"Median {_lower(_title(area))}", "density": f"Median {_lower(_title(DENSITY))}"}
    return rows.rename(columns={"class": "Class", "n": "Objects", **titles})


def measurement_title(column: str) -> str:
    """Return the name of a column of cells.csv for readers: ``area_um2`` is Area (µm²)."""
    suffix = next((suffix for suffix in _UNITS if column.endswith(suffix)), "")
    words = (
        column.removesuffix(suffix).replace("_", " ").replace(" mean", ", mean").replace(" sd", ", standard deviation")
    )
    return words[:1].upper() + words[1:] + _UNITS.get(suffix, "")


def value_text(value: object) -> str:
    """Write a measurement with three digits; larger numbers whole, with separators."""
    if not isinstance(value, Real):
        return str(value)
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.3g}"


def chosen_ids(event: object) -> list[int]:
    """Return the ids of the objects that were chosen in the chart."""
    points = event.get("selection", {}).get("points", []) if isinstance(event, Mapping) else []
    ids = [point["customdata"] for point in points if point.get("customdata")]
    return [int(one[0] if isinstance(one, list | tuple) else one) for one in ids]


def show(found: CatalogueEntry, view: SlideView, classes: ClassList, clicked: Mapping[str, int] | None) -> None:
    """Show the objects of a predicted slide under the viewer."""
    assert found.prediction is not None
    try:
        table = table_of(found.prediction)
        if table is None or table.empty:
            return
        if clicked is not None:
            _clicked(found, view, table, clicked)
    except CytosegError as error:
        st.warning(state.error_text(error), icon=":material/warning:")
        return
    st.subheader(f"Objects ({len(table):,})")
    left, right = st.columns([1.6, 1], gap="medium")
    with left:
        event = st.plotly_chart(
            _chart(table, classes),
            on_select="rerun",
            selection_mode=("points", "box", "lasso"),
            key=f"cells {found.key}",
            config={"displaylogo": False},
        )
        if len(table) > MAX_POINTS:
            st.caption(f"A random sample of {MAX_POINTS:,} objects.")
    with right:
        counted = counts(table).map(value_text)
        counted["Class"] = counted["Class"].map(state.plain)
        st.table(counted, border="horizontal", hide_index=True)
        _chosen(found.key, table[table["id"].isin(chosen_ids(event))], view.mpp)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _title(column: str) -> str:
    return {"area_um2": "Area (µm²)", "area_px": "Area (px)"}.get(column, "Optical density")


def _chart(table: pd.DataFrame, classes: ClassList) -> go.Figure:
    drawn = table.sample(MAX_POINTS, random_state=0) if len(table) > MAX_POINTS else table
    area, figure = area_column(table), go.Figure()
    for name, colour in zip(classes.names, classes.colours, strict=True):
        own = drawn[drawn["class"] == name]
        if own.empty:
            continue
        figure.add_scattergl(
            x=own[area],
            y=own[DENSITY],
            customdata=own[["id"]],
            mode="markers",
            name=name,
            marker={"color": f"rgb{tuple(colour)}", "size": 6, "line": {"width": 0.5, "color": "#5a6675"}},
            hovertemplate="%{customdata[0]}: %{x:.1f}, %{y:.2f}",
        )
    figure.update_layout(
        xaxis=_log_axis(drawn[area]),
        xaxis_title=_title(area),
        yaxis_title=_title(DENSITY),
        height=360,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        dragmode="select",
        showlegend=True,
        font={"size": 13, "color": widgets.ink()},
        xaxis_title_font_color=widgets.ink(),
        yaxis_title_font_color=widgets.ink(),
        xaxis_tickfont={"size": 13, "color": widgets.ink()},
        yaxis_tickfont={"size": 13, "color": widgets.ink()},
    )
    return figure


def _log_axis(values: "pd.Series[float]") -> dict[str, Any]:
    """Return a logarithmic axis with plain numbers: a cytoplasm is hundreds of times as large as a nucleus."""
    positive = values[values > 0]
    if positive.empty:
        return {}
    low, high = math.floor(math.log10(positive.min())), math.ceil(math.log10(positive.max()))
    steps = (1, 2, 5) if high - low <= MOST_DECADES else (1,)
    marks = [step * 10.0**power for power in range(low, high + 1) for step in steps]
    return {"type": "log", "tickvals": marks, "ticktext": [f"{mark:,.10g}" for mark in marks]}


def _chosen(key: str, rows: pd.DataFrame, mpp: float | None) -> None:
    """List the chosen objects; a click on one leads to it on the slide."""
    if rows.empty:
        st.caption("Draw a box or a lasso in the chart to choose objects; click a row to go to its object.")
        return
    st.markdown(f"**{len(rows):,} chosen**")
    listed = rows.head(MAX_ROWS)[["id", "class", area_column(rows), DENSITY]].reset_index(drop=True)
    event: Any = st.dataframe(listed, on_select="rerun", selection_mode="single-row", hide_index=True, height=220)
    picked = event.selection.rows if event else []
    if picked and st.session_state.get("cell gone to") != (key, int(listed["id"].iloc[picked[0]])):
        row = rows.iloc[picked[0]]
        st.session_state["cell gone to"] = (key, int(row["id"]))
        region = _around(row, mpp)
        viewer.ask_jump(key, max(0, region.x), max(0, region.y), region.width)
        st.rerun()


def _around(row: "pd.Series[Any]", mpp: float | None) -> Region:
    """Return a square around an object, of a few of its diameters, in level-0 pixels."""
    area = row["area_px"] if mpp is None or "area_um2" not in row else row["area_um2"] / mpp**2
    side = max(40, round(_AROUND * 2 * math.sqrt(float(area) / math.pi)))
    return Region(round(float(row[X])) - side // 2, round(float(row[Y])) - side // 2, side, side)


def _clicked(found: CatalogueEntry, view: SlideView, table: pd.DataFrame, clicked: Mapping[str, int]) -> None:
    """Show the measurements and the image of the clicked object."""
    assert found.prediction is not None
    look = partial(object_at, found.prediction, view.size, clicked["x"], clicked["y"])
    number = tiles.LANES.wait(("object", found.path), look)
    rows = table[table["id"] == number]
    if rows.empty:
        st.caption("There is no object where you clicked.")
        return
    row = rows.iloc[0]
    st.subheader(f"Object {number}: {state.plain(str(row['class']))}")
    picture, numbers = st.columns([1, 3], gap="medium")
    take = partial(object_picture, found.path, found.prediction, number, _around(row, view.mpp))
    widgets.show(picture, jpeg(tiles.LANES.wait(("object", found.path), take)), alt="The chosen object")
    measured = row.drop(["id", "class"]).dropna()
    numbers.dataframe(
        pd.DataFrame({"Measurement": map(measurement_title, measured.index), "Value": map(value_text, measured)}),
        hide_index=True,
        height=250,
    )
