"""Anomalies: the list, its images, and messages where there are none."""

import json
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
import streamlit
from PIL import Image
from streamlit.testing.v1 import AppTest

from cytoseg.anomaly.regions import REGIONS_FILE, REGIONS_JSON, AnomalousRegion, RegionList
from cytoseg.geometry import Region

Review = Callable[..., AppTest]
INK = AnomalousRegion(Region(64, 0, 32, 32), 7.5, 1.25, "*cell*", "01.png")
FOUND = RegionList("/home/ann/smear_A.tif", (INK,), {"texture": 0.05, "shape": 0.02}, 2.0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """runs/tiny, in which the slide smear_A was scored."""
    folder = tmp_path / "runs" / "tiny"
    slide = folder / "anomaly" / "smear_A"
    (slide / "regions").mkdir(parents=True)
    (folder / "recipe.yaml").write_text("name: tiny\n")
    write(slide, FOUND)
    for name in ("preview.png", "regions/01.png"):
        Image.new("RGB", (8, 8), (100, 100, 100)).save(slide / name)
    return folder


def write(slide: Path, found: RegionList) -> None:
    (slide / REGIONS_JSON).write_text(json.dumps(REGIONS_FILE.content_of(found)))


def opened(review: Review, run: Path) -> tuple[AppTest, str]:
    app = review("anomalies", "--run", str(run))
    assert not app.exception, app.exception
    parts = [*app.error, *app.info, *app.warning, *app.caption, *app.markdown, *app.subheader]
    return app, "\n".join(str(part.value) for part in parts).replace("\\", "")


def test_regions_are_listed_with_their_pictures(review: Review, run: Path) -> None:
    app, said = opened(review, run)
    (table,) = app.dataframe
    assert table.value.iloc[0].tolist() == [1, 7.5, "texture", "*cell*", 64, 0]
    assert "Above the threshold: shape 2.0%, texture 5.0%." in said
    assert len(app.image) == 2
    assert "/home/ann" not in said


@pytest.mark.parametrize(("label", "cell"), [("*cell_a*", "*cell_a*"), ("=1+1", "'=1+1")])
def test_the_csv_names_classes_as_the_recipe_does(
    review: Review, run: Path, monkeypatch: pytest.MonkeyPatch, label: str, cell: str
) -> None:
    offered: list[bytes] = []
    monkeypatch.setattr(streamlit, "download_button", lambda _label, data, **_about: offered.append(data))
    write(run / "anomaly" / "smear_A", replace(FOUND, regions=(replace(INK, label=label),)))
    app, _ = opened(review, run)
    assert app.dataframe[0].value["Class"].tolist() == [label]
    table = pd.read_csv(BytesIO(offered[0]), encoding="utf-8-sig")
    assert table["Class"].tolist() == [cell]  # the apostrophe keeps a spreadsheet from computing a formula
    assert table[["Rank", "Score", "x", "y"]].to_numpy().tolist() == [[1, 7.5, 64, 0]]


def test_without_scored_slides_tissue_or_regions_the_page_says_so(review: Review, run: Path) -> None:
    slide = run / "anomaly" / "smear_A"
    write(slide, RegionList("", (), {"texture": 0.0, "shape": 0.0}))
    assert "No region lies above the threshold." in opened(review, run)[1]
    write(slide, RegionList("", (), {}, tissue=False))
    assert "No tissue was found on this slide" in opened(review, run)[1]
    (slide / REGIONS_JSON).write_text('{"format": 1, "regions": ')
    assert "smear_A/regions.json" in opened(review, run)[1]
    (slide / REGIONS_JSON).unlink()
    assert "Scored slides" not in opened(review, run)[1]


def test_a_recipe_that_cannot_be_used_hides_no_result(review: Review, run: Path) -> None:
    app, said = opened(review, run)
    assert "recipe.yaml of this run cannot be used" in said
    assert "Scored slides (1)" in said
    assert len(app.dataframe) == 1


def test_a_missing_picture_does_not_hide_the_list(review: Review, run: Path) -> None:
    (run / "anomaly" / "smear_A" / "regions" / "01.png").unlink()
    app, said = opened(review, run)
    assert "there is no image yet" in said
    assert len(app.dataframe) == 1
