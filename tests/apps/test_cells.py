"""Objects on the page Slides: counts, chart, the clicked one, damage."""

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from cytoseg.classes import ClassList
from cytoseg.csv_table import write_csv
from cytoseg.geometry import Region, Size
from cytoseg.slides.pyramid import write_pyramid

Review = Callable[..., AppTest]


@pytest.fixture
def prediction(sighted: Path) -> Path:
    """The chessboard's prediction with three cells; the second is the square at (100, 0)."""
    folder = sighted / "predictions" / "board"
    ids = np.zeros((600, 600), np.uint32)
    ids[:100, 100:200], ids[100:200, :100], ids[300:310, 300:310] = 2, 1, 3
    write_pyramid(folder / "instances.ome.tif", [ids], size=Size(600, 600), mpp=0.5, categorical=True)
    rows = {
        "id": [1, 2, 3],
        "class": ["cell", "cell", "background"],
        "centroid_x_level0_px": [50.0, 150.0, 305.0],
        "centroid_y_level0_px": [150.0, 50.0, 305.0],
        "area_px": [10_000, 10_000, 100],
        "area_um2": [2500.0, 2500.0, 25.0],
        "optical_density_mean": [0.4, 0.6, 0.1],
        "no_ratio_because": [None, "two nuclei", None],
    }
    pd.DataFrame(rows).to_csv(folder / "cells.csv", index=False)
    return folder


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch, review: Review) -> ModuleType:
    return importlib.import_module("cells")


def _clicking(monkeypatch: pytest.MonkeyPatch, x: int, y: int) -> None:
    viewer = importlib.import_module("viewer")
    pointed = viewer.Pointed({"x": x, "y": y, "width": 100}, None)
    monkeypatch.setattr(viewer, "show", lambda *_args, **_more: pointed)


def _texts(app: AppTest) -> str:
    parts = [*app.main.markdown, *app.caption, *app.warning, *app.subheader]
    return "\n".join(str(part.value) for part in parts).replace("\\", "")


@pytest.mark.parametrize("name", ["=sum", "NA", "null", "*cell_a*"])
def test_objects_of_a_class_with_an_odd_name_are_counted_and_drawn(
    prediction: Path, cells: ModuleType, name: str
) -> None:
    rows = [["id", "class", cells.X, cells.Y, "area_px", cells.DENSITY], [1, name, 5.0, 5.0, 100, 0.5]]
    write_csv(prediction / "cells.csv", rows)
    table = cells.table_of(prediction)
    assert cells.counts(table)["Class"].tolist() == [name]
    (trace,) = cells._chart(table, ClassList((name, "other"), ((1, 2, 3), (4, 5, 6)), None)).data
    assert (trace.name, list(trace.x)) == (name, [100])


def test_a_class_name_is_no_markdown_in_the_table_of_counts(review: Review, prediction: Path, tmp_path: Path) -> None:
    path = prediction / "cells.csv"
    path.write_text(path.read_text().replace(",cell,", ",*cell*,"))
    app = review("slides", "--base", str(tmp_path))
    assert app.table[0].value["Class"].tolist() == [r"\*cell\*", "background"]


def test_objects_are_counted_by_class_and_drawn(
    review: Review, prediction: Path, tmp_path: Path, cells: ModuleType
) -> None:
    app = review("slides", "--base", str(tmp_path))
    assert not app.exception, app.exception
    assert "Objects (3)" in _texts(app)
    shown = app.table[0].value.to_numpy().tolist()
    assert shown == [["background", "1", "25", "0.1"], ["cell", "2", "2,500", "0.5"]]
    table = cells.table_of(prediction)
    counted = cells.counts(table).to_numpy().tolist()
    assert counted == [["background", 1, 25.0, 0.1], ["cell", 2, 2500.0, 0.5]]
    assert list(cells.counts(table.drop(columns="area_um2"))["Median area (px)"]) == [100, 10_000]
    classes = importlib.import_module("tests.apps.sighted").CLASSES
    traces = cells._chart(table, classes).data
    assert [(trace.name, list(trace.x), list(trace.y)) for trace in traces] == [
        ("background", [25.0], [0.1]),
        ("cell", [2500.0, 2500.0], [0.4, 0.6]),
    ]
    assert traces[1].customdata.tolist() == [[1], [2]]
    axis = cells._chart(table, classes).layout.xaxis
    assert (axis.type, axis.title.text) == ("log", "Area (µm²)")
    assert axis.ticktext[:4] == ("10", "20", "50", "100")
    assert cells._log_axis(table["area_um2"] * 1e6)["ticktext"][0] == "10,000,000"
    assert len(cells._log_axis(table["area_um2"] ** 2)["ticktext"]) == 6  # 625 to 6,250,000
    assert cells._log_axis(table["area_um2"] * 0) == {}


@pytest.mark.parametrize(
    ("event", "ids"),
    [
        ({"selection": {"points": [{"customdata": [2]}, {"customdata": 3}, {"x": 1}]}}, [2, 3]),
        ({"selection": {"points": []}}, []),
        ({}, []),
        (None, []),
    ],
)
def test_what_is_chosen_in_the_chart_is_known_by_id(cells: ModuleType, event: Any, ids: list[int]) -> None:
    assert cells.chosen_ids(event) == ids


@pytest.mark.usefixtures("cells")
def test_a_chosen_object_is_gone_to(
    review: Review, prediction: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import streamlit as st

    assert prediction.is_dir()
    event = {"selection": {"points": [{"customdata": [2]}, {"customdata": [3]}]}}
    monkeypatch.setattr(st, "plotly_chart", lambda *_args, **_more: event)
    frames = []

    class Picked:
        class selection:  # noqa: N801 # as Streamlit names it
            rows = (0,)

    shown = st.dataframe

    def dataframe(table: Any, **more: Any) -> Any:
        if "on_select" not in more:
            return shown(table, **more)
        frames.append(table)
        return Picked

    monkeypatch.setattr(st, "dataframe", dataframe)
    viewer = importlib.import_module("viewer")
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(viewer, "ask_jump", lambda *place: asked.append(place))
    app = review("slides", "--base", str(tmp_path))
    assert not app.exception, app.exception
    assert "**2 chosen**" in _texts(app)
    assert frames[0]["id"].tolist() == [2, 3]
    side = round(3 * 2 * math.sqrt(10_000 / math.pi))
    assert asked == [("board", 0, 0, side)]  # once, though the page has run again since


@pytest.mark.usefixtures("cells")
def test_a_clicked_object_shows_its_measurements(
    review: Review, prediction: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prediction.is_dir()
    app = review("app", "--base", str(tmp_path))
    _clicking(monkeypatch, 120, 30)
    app = app.switch_page("pages/slides.py").run()
    assert not app.exception, app.exception
    assert "Object 2: cell" in _texts(app)
    measured = dict(app.dataframe[0].value.to_numpy().tolist())
    assert measured["Area (µm²)"] == "2,500"
    assert measured["No ratio because"] == "two nuclei"
    _clicking(monkeypatch, 500, 500)
    assert "There is no object where you clicked." in _texts(app.run())


HEAD = "id,class,centroid_x_level0_px,centroid_y_level0_px,area_px,optical_density_mean\n"


@pytest.mark.parametrize(
    "text",
    [
        *("", "id,class\n1,cell\n", "id,class\nx,cell\n", '"', f"{HEAD}{10**30},cell,1,1,1,1\n"),
        *(
            f"{HEAD}1,cell,{row}\n"
            for row in ("nan,1,1,1", "1,inf,1,1", "1,1,-1,1", "1,1,,1", "1,1,1,x", "1e300,1,1,1")
        ),
    ],
)
@pytest.mark.usefixtures("cells")
def test_a_damaged_table_is_a_sentence(review: Review, prediction: Path, tmp_path: Path, text: str) -> None:
    (prediction / "cells.csv").write_text(text)
    app = review("slides", "--base", str(tmp_path))
    assert not app.exception, app.exception
    assert "cells.csv: is damaged" in _texts(app)


def test_an_object_is_shown_with_what_lies_around_it(cells: ModuleType) -> None:
    row = pd.Series({"area_px": 100.0, "area_um2": 100 * math.pi, cells.X: 300.0, cells.Y: 200.0})
    assert cells._around(row, 0.5) == Region(240, 140, 120, 120)
    assert cells._around(row.drop("area_um2"), None) == Region(280, 180, 40, 40)


@pytest.mark.parametrize(
    ("column", "title"),
    [
        ("area_um2", "Area (µm²)"),
        ("centroid_x_level0_px", "Centroid x on the slide (px)"),
        ("equivalent_diameter_um", "Equivalent diameter (µm)"),
        ("optical_density_sd", "Optical density, standard deviation"),
        ("red_mean_8bit", "Red, mean (0 to 255)"),
        ("nuclei", "Nuclei"),
    ],
)
def test_measurements_are_named_for_readers(cells: ModuleType, column: str, title: str) -> None:
    assert cells.measurement_title(column) == title


def test_measurements_are_written_with_three_digits(cells: ModuleType) -> None:
    values = (37548, 9387.0, 1234.5, 284.29, 0.01234, "whole")
    assert list(map(cells.value_text, values)) == ["37,548", "9,387", "1,234", "284", "0.0123", "whole"]
