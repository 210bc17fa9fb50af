"""The whole job in a real browser, from slides to a signed-off result; server and browser are killed in every step."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
from playwright.sync_api import Page, expect
from scipy import ndimage

from cytoseg.classes import IGNORE
from cytoseg.jobs.job_table import FINISHED, RUNNING
from cytoseg.labels.drawn_marks import drawn_of
from cytoseg.labels.index import load_index
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.review.append_only import log_of
from cytoseg.review.slide_approvals import read_sign_offs
from cytoseg.writing import write_atomically
from tests.browser.bench import (
    AUTHOR,
    SLIDE_PX,
    Bench,
    are_the_marks,
    at,
    bench,
    drag,
    has_all_classes,
    marked,
    places,
    shot,
    type_in,
    until,
)
from tests.browser.conftest import DRAWN_MS, rested
from tests.browser.test_viewer_browser import LOADED

__all__ = ["bench"]
pytestmark = pytest.mark.browser
CROPS = 3
ON_SCREEN = """([x, y]) => {
  const at = sight.viewport.pixelFromPoint(sight.world.getItemAt(0).imageToViewportCoordinates(x, y), true);
  const box = sight.element.getBoundingClientRect();
  return [at.x + box.x, at.y + box.y];
}"""


@pytest.mark.slow  # some minutes: it starts the app nine times, and six commands
def test_from_slides_to_a_signed_off_result(bench: Bench) -> None:
    _new_project(bench)
    _annotate(bench)
    _train(bench)
    _predict(bench)
    _look_at_the_objects(bench)
    _export(bench)
    _approve(bench)
    _export_the_sign_off(bench)
    assert bench.errors == []


def _new_project(bench: Bench) -> None:
    """Name a project, lose everything before it is begun and right after, and find it whole."""
    for begins in (False, True):
        page = bench.page
        expect(page.locator("h1").first).to_contain_text("New project", timeout=DRAWN_MS)
        expect(page.get_by_text("smear_2.ome.tif: 384 x 384, 0.5 µm a pixel")).to_be_visible(timeout=DRAWN_MS)
        type_in(page, "Name of the project", "story")
        shot(bench, "new_project")
        if begins:
            page.get_by_role("button", name="Create the project", exact=True).click()
            until(lambda: (bench.run / "recipe.yaml").is_file())
        bench.lose_everything("annotate" if begins else "")
        assert Path("story.yaml").exists() == begins
    expect(bench.page.locator("h1").first).to_contain_text("Annotate", timeout=DRAWN_MS)
    assert load_recipe("story.yaml").class_list().names == ("background", "cytoplasm", "nucleus")
    recipe = load_recipe("story.yaml", ["interpreter.members=2", "interpreter.steps=100"])  # a person has more time
    write_atomically(bench.run / "recipe.yaml", dump_recipe(recipe))


def _annotate(bench: Bench) -> None:
    """Mark three crops of two slides with brush, rectangle and polygon, and see at once what that gives."""
    page = bench.page
    page.get_by_role("button", name="Cut a random crop").click()
    rested(page)
    type_in(page, "Your name", AUTHOR)
    crops: list[str] = []
    cut: list[str] = []
    while len(crops) < CROPS or len({crop.rsplit("_", 2)[0] for crop in crops}) < 2:
        if cut:
            page.get_by_role("button", name="New random crop").click()
        cut.append(_opened_crop(page, cut))
        if not has_all_classes(cut[-1]):
            continue
        crops.append(cut[-1])
        _mark(bench, crops[-1])
        if len(crops) == 2:
            _lose_the_server_after_a_stroke(bench, crops[-1])
        _see_the_result(bench)
        if not page.get_by_text("A crop of the test slide").count():
            shot(bench, "annotate")
            page.locator("[data-layer=doubt]").click()
            shot(bench, "uncertainty")
            page.locator("[data-layer=classes]").click()
        if len(crops) == 1:
            page = _lose_everything_in_a_stroke(bench, crops[0])
    index = load_index(bench.run / "labels")
    assert sorted(crop.crop for crop in index.crops) == sorted(crops)
    for crop in crops:
        are_the_marks(marked(bench.run / "to_label" / f"{crop}.png"), places(crop))


def _lose_everything_in_a_stroke(bench: Bench, crop: str) -> Page:
    """Lose browser and server in the middle of a drawing; all that was said to be saved is there again."""
    bench.page.keyboard.press("b")
    bench.page.mouse.move(*at(bench.page, 20, 230))
    bench.page.mouse.down()
    bench.lose_everything("annotate")
    page = bench.page
    expect(page.locator(f".editor[data-token*='/{crop}/'][aria-busy=false]")).to_be_visible(timeout=DRAWN_MS)
    rested(page)
    type_in(page, "Your name", AUTHOR)
    are_the_marks(marked(bench.run / "to_label" / f"{crop}.png"), places(crop))
    return page


def _lose_the_server_after_a_stroke(bench: Bench, crop: str) -> None:
    """Kill the server before it can save a stroke; the browser still knows it, and hands it over when both are back."""
    page, picture = bench.page, bench.run / "to_label" / f"{crop}.png"
    before = marked(picture)
    y = next(y for y in range(10, 246, 4) if (before[y - 8 : y + 8, 90:150] == IGNORE).all())
    bench.server.kill()
    page.keyboard.press("b")
    page.keyboard.press("1")
    drag(page, (100, y), (140, y))
    bench.kill_and_start_again()
    box = page.get_by_role("combobox", name="Crop", exact=True)
    expect(box).to_be_visible(timeout=DRAWN_MS)
    rested(page)
    box.fill(crop)
    box.press("Enter")
    expect(page.locator(f".editor[data-token*='/{crop}/'][aria-busy=false]")).to_be_visible(timeout=DRAWN_MS)
    expect(page.locator("[data-part=said]")).to_have_text("Saved.", timeout=DRAWN_MS)
    assert set(marked(picture)[y - 3 : y + 3, 100:140].ravel().tolist()) == {0}
    page.locator("h1").first.click()
    page.keyboard.press("e")
    drag(page, (98, y), (142, y))
    expect(page.locator("[data-part=said]")).to_have_text("Saved.", timeout=DRAWN_MS)
    assert (marked(picture) == before).all()


def _opened_crop(page: Page, before: list[str]) -> str:
    """Wait until a crop is open that was not before; gives its name."""
    known = "".join(f":not([data-token*='/{crop}/'])" for crop in before)
    editor = page.locator(f".editor[data-token*='/to_label/']{known}[aria-busy=false]")
    expect(editor).to_be_visible(timeout=DRAWN_MS)
    rested(page)
    token = editor.get_attribute("data-token")
    assert token is not None
    return token.split("/")[2]


def _mark(bench: Bench, crop: str) -> None:
    page, said = bench.page, bench.page.locator("[data-part=said]")
    expect(said).to_have_text("Each stroke is saved.", timeout=DRAWN_MS)
    page.locator("h1").first.click()  # while a field has focus, keys are letters
    page.keyboard.press("b")
    page.keyboard.press("1")
    (x, y, half), square, corner = places(crop)
    drag(page, (x - half, y), (x + half, y))
    expect(said).to_have_text("Saved.", timeout=DRAWN_MS)
    page.keyboard.press("r")
    page.keyboard.press("2")
    x, y, half = square
    drag(page, (x - half, y - half), (x + half, y + half))
    expect(said).to_have_text("Saved.", timeout=DRAWN_MS)
    page.keyboard.press("p")
    page.keyboard.press("3")
    x, y, half = corner
    for place in ((x - half, y - half), (x + half, y - half), (x + half, y + half)):
        page.mouse.click(*at(page, *place))
    page.keyboard.press("Enter")
    expect(said).to_have_text("Saved.", timeout=DRAWN_MS)
    picture = bench.run / "to_label" / f"{crop}.png"
    are_the_marks(marked(picture), places(crop))
    assert (drawn := drawn_of(picture)) is not None
    assert drawn.author == AUTHOR


def _see_the_result(bench: Bench) -> None:
    """Wait for the live result of the crop's marks."""
    page = bench.page
    expect(page.get_by_text(re.compile(r"Trained on \d+ crops? in [\d.]+ s\."))).to_be_visible(timeout=DRAWN_MS)
    expect(page.locator(".editor[data-drawnclasses]")).to_be_visible(timeout=DRAWN_MS)
    rested(page)


def _train(bench: Bench) -> None:
    """Start the training, lose everything while it runs, and find marks and job again."""
    bench.page.get_by_role("button", name="Train", exact=True).click()
    until(lambda: [job.state for job in bench.jobs()] in ([RUNNING], [FINISHED]))
    bench.lose_everything("annotate")
    page = bench.page
    expect(page.locator("h1").first).to_contain_text("Annotate", timeout=DRAWN_MS)
    expect(page.locator(".editor[aria-busy=false]")).to_be_visible(timeout=DRAWN_MS)
    until(lambda: bench.jobs()[0].state == FINISHED)
    expect(page.get_by_text("1. Train: finished")).to_be_visible(timeout=DRAWN_MS)
    expect(page.get_by_text(f"Started by {AUTHOR}")).to_be_visible(timeout=DRAWN_MS)
    page.get_by_test_id("stSidebar").get_by_role("link", name="Jobs").click()
    expect(page.locator("h1").first).to_contain_text("Jobs", timeout=DRAWN_MS)
    type_in(page, "Your name", AUTHOR)
    expect(page.get_by_text("1. Train: finished")).to_be_visible(timeout=DRAWN_MS)
    shot(bench, "train")
    assert (bench.run / "interpreter" / "bundle").is_dir()


def _predict(bench: Bench) -> None:
    """Predict a slide, lose everything while it runs, and find its results."""
    page = bench.page
    page.get_by_test_id("stSidebar").get_by_role("link", name="Predict").click()
    expect(page.locator("h1").first).to_contain_text("Predict", timeout=DRAWN_MS)
    rested(page)
    type_in(page, "Your name", AUTHOR)
    box = page.get_by_role("combobox", name="Slides")
    box.fill("smear_0")
    box.press("Enter")
    page.locator("h1").first.click()
    page.get_by_role("button", name="Predict", exact=True).click()
    until(lambda: (bench.jobs()[0].command, bench.jobs()[0].state) in (("predict", RUNNING), ("predict", FINISHED)))
    bench.lose_everything("predict")
    until(lambda: (bench.jobs()[0].command, bench.jobs()[0].state) == ("predict", FINISHED))
    expect(bench.page.get_by_role("button", name="Open the slide")).to_be_visible(timeout=DRAWN_MS)
    type_in(bench.page, "Your name", AUTHOR)
    shot(bench, "predict")


def _look_at_the_objects(bench: Bench) -> None:
    """Click an object, lose everything, and see the same outlines again."""
    page = bench.page
    page.get_by_role("button", name="Open the slide").click()
    expect(page.locator("h1").first).to_contain_text("Slides", timeout=DRAWN_MS)
    type_in(page, "Your name", AUTHOR)
    page.locator("h1").first.scroll_into_view_if_needed()
    page.wait_for_function(LOADED, arg=3, timeout=DRAWN_MS)
    lines = page.locator(".outlines .line, .outlines .dot")
    expect(lines.first).to_be_attached(timeout=DRAWN_MS)
    page.wait_for_timeout(500)  # all outlines
    outlined = lines.count()
    shot(bench, "look")
    number = _click_the_roundest(bench)
    expect(page.get_by_role("heading", name=re.compile(rf"Object {number}: "))).to_be_visible(timeout=DRAWN_MS)
    page.get_by_role("heading", name="Objects").scroll_into_view_if_needed()
    rested(page)
    shot(bench, "objects")
    bench.lose_everything("slides?run=story&slide=smear_0")
    bench.page.wait_for_function(LOADED, arg=3, timeout=DRAWN_MS)
    expect(bench.page.locator(".outlines .line, .outlines .dot")).to_have_count(outlined, timeout=DRAWN_MS)


def _click_the_roundest(bench: Bench) -> int:
    """Click where there is most room in an object; gives its number."""
    ids = tifffile.imread(bench.run / "predictions" / "smear_0" / "instances.ome.tif")
    room = np.where(ids > 0, ndimage.distance_transform_edt(np.pad(ids > 0, 1))[1:-1, 1:-1], 0)
    y, x = np.unravel_index(room.argmax(), room.shape)
    bench.page.mouse.click(*bench.page.evaluate(ON_SCREEN, [int(x) + 0.5, int(y) + 0.5]))
    return int(ids[y, x])


def _export(bench: Bench) -> None:
    """Lose everything in the middle of a download; then take all files and read them with the tools of others."""
    page = bench.page
    page.get_by_test_id("stSidebar").get_by_role("link", name="Predict").click()
    link = page.get_by_role("link", name="Class map")
    expect(link).to_be_visible(timeout=DRAWN_MS)
    link.evaluate("(link) => link.click()")
    bench.lose_everything("predict")
    folder = bench.run / "predictions" / "smear_0"
    ids = tifffile.imread(_downloaded(bench.page, "Class map"))
    assert ids.shape == (SLIDE_PX, SLIDE_PX)
    assert set(np.unique(ids).tolist()) <= {0, 1, 2, IGNORE}
    doubt = tifffile.imread(_downloaded(bench.page, "Uncertainty"))
    assert (doubt.shape, doubt.dtype) == (ids.shape, np.uint8)
    numbers = tifffile.imread(_downloaded(bench.page, "Objects"))
    cells = pd.read_csv(_downloaded(bench.page, "CSV"))
    pd.testing.assert_frame_equal(cells, pd.read_csv(folder / "cells.csv"))
    assert sorted(cells["id"]) == np.unique(numbers[numbers > 0]).tolist()
    _outlines_fit(json.loads(_downloaded(bench.page, "GeoJSON").read_text(encoding="utf-8")), cells, numbers)


def _outlines_fit(collection: dict[str, Any], cells: pd.DataFrame, numbers: np.ndarray[Any, Any]) -> None:
    """Read the outlines with shapely: valid, of the class in the table, and around the objects in the map."""
    outlines = {int(one["properties"]["name"]): one for one in collection["features"]}
    assert sorted(outlines) == sorted(cells["id"])
    for cell in cells.itertuples():
        one = outlines[cell.id]
        shape = shapely.from_geojson(json.dumps(one["geometry"]))
        assert shape.is_valid
        assert one["properties"]["classification"]["name"] == cells.loc[cell.Index, "class"]
        assert shape.area == pytest.approx(cell.area_px, rel=0.15, abs=8)
        rows, columns = np.nonzero(numbers == cell.id)
        around = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert shape.bounds == pytest.approx(around, abs=2)


def _downloaded(page: Page, title: str) -> Path:
    with page.expect_download(timeout=DRAWN_MS) as saved:
        page.get_by_role("link", name=title, exact=True).first.click()
    return Path(saved.value.path())


def _approve(bench: Bench) -> None:
    """Lose everything before a slide is signed off, and right after: it is signed off once."""
    for says in (False, True):
        page = bench.page
        page.get_by_test_id("stSidebar").get_by_role("link", name="Slides").click()
        expect(page.locator("h1").first).to_contain_text("Slides", timeout=DRAWN_MS)
        type_in(page, "Your name", AUTHOR)
        page.get_by_role("textbox", name="Comment").fill("all nuclei found")
        page.get_by_role("textbox", name="Comment").press("Control+Enter")
        rested(page)
        if says:
            page.get_by_role("button", name="Approve").click()
            until(lambda: len(read_sign_offs(log_of(bench.run, None))) == 1)
        bench.lose_everything("slides?run=story&slide=smear_0")
        entries = read_sign_offs(log_of(bench.run, None))
        assert [(one.slide, one.verdict, one.author, one.comment) for one in entries] == [
            ("smear_0", "approved", AUTHOR, "all nuclei found")
        ] * says
    assert len(entries[0].bundle) == 64
    shown = bench.page.get_by_text(re.compile(rf"approved by {AUTHOR}, .* \(all nuclei found\)"))
    expect(shown).to_be_visible(timeout=DRAWN_MS)
    type_in(bench.page, "Your name", AUTHOR)
    expect(bench.page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=DRAWN_MS)
    bench.page.get_by_role("button", name="Needs labels").scroll_into_view_if_needed()
    rested(bench.page)
    shot(bench, "approve")


def _export_the_sign_off(bench: Bench) -> None:
    """Take the table of the slides and the report, which both name who signed off."""
    page = bench.page
    page.get_by_test_id("stSidebar").get_by_role("link", name="Predict").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Slides (CSV)").click()
    (row,) = pd.read_csv(saved.value.path()).to_dict("records")
    said = [row[name] for name in ("slide", "verdict", "author", "of this prediction")]
    assert said == ["smear_0", "approved", AUTHOR, "yes"]
    rested(page)
    shot(bench, "export")
    report = _downloaded(page, "Report").read_text(encoding="utf-8")
    assert f"Signed off: approved by {AUTHOR}" in report
