"""The whole loop in a real browser: view, correct, queue, train, compare."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from skimage.segmentation import flood
from typer.testing import Result

from cytoseg.classes import ClassList
from cytoseg.commands.review import streamlit_command
from cytoseg.formats.annotation import paint
from cytoseg.formats.labelme import read_labelme
from cytoseg.labels.corrections import corrections_folder, find_corrections, read_correction
from cytoseg.labels.proposal_file import proposal
from cytoseg.recipe import load_recipe
from cytoseg.review.append_only import log_of
from cytoseg.review.review_log import read_entries
from cytoseg.shipped import shipped_review
from tests.browser.conftest import DRAWN_MS, free_port, open_page, serve
from tests.browser.test_viewer_browser import LOADED
from tests.end_to_end.conftest import GENERATE, RECIPE, run_command

pytestmark = [pytest.mark.browser, pytest.mark.slow]  # five commands, a server, and the whole loop

LAYERS = {"Class map": "classes", "Uncertainty": "uncertainty", "Ground truth": "truth"}
"""The layers over a slide, and what their tiles are called in addresses."""
STEPS = (
    GENERATE,
    "train-ddpm tiny.yaml",
    "label-import made/labelled --recipe tiny.yaml",
    "train-interpreter tiny.yaml",
    "evaluate tiny.yaml",
    "predict tiny.yaml made/slides/made_2_02.ome.tif predict.tile_px=64",
)
SLIDE, CROP_PX, REGION_PX = "made_2_02", 64, 32
AUTHOR = "Anna Øster"
Ids = NDArray[np.uint8]


@dataclass(frozen=True)
class Loop:
    """The run whose loop is closed, and the page that looks at it."""

    page: Page
    address: str
    home: Path

    @property
    def run(self) -> Path:
        return self.home / "runs" / "tiny"

    @property
    def classes(self) -> ClassList:
        return load_recipe("tiny.yaml").class_list()

    def evaluation(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run / "evaluation" / "evaluation.json").read_text())
        return found

    def class_map(self) -> Ids:
        ids: Ids = tifffile.imread(self.run / "predictions" / SLIDE / "class_map.ome.tif")
        return ids

    def truth(self) -> Ids:
        ids: Ids = tifffile.imread(self.home / "made" / "slides" / f"{SLIDE}.labels.ome.tif")
        return ids


@pytest.fixture
def loop(chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    for line in STEPS:
        _do(line)
    port = free_port()
    command = streamlit_command(load_recipe("tiny.yaml", [f"review.port={port}", "review.log=sqlite:///said.sqlite"]))
    with serve(command, port=port, folder=shipped_review()) as address:
        page = open_page(chromium, address)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield Loop(page, address, tmp_path)
        page.context.close()
        assert errors == []


def _do(line: str) -> Result:
    result = run_command(*line.split())
    assert result.exit_code == 0, result.output
    return result


def _turn_to(loop: Loop, title: str, heading: str) -> None:
    """Go to a page as a person does, by the list at the side."""
    loop.page.get_by_test_id("stSidebar").get_by_role("link", name=title).click()
    expect(loop.page.locator("h1").first).to_contain_text(heading, timeout=DRAWN_MS)
    _drawn(loop.page)


def _drawn(page: Page) -> None:
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0, timeout=DRAWN_MS)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.get_by_test_id("stAlertContentError")).to_have_count(0)


def test_the_loop_from_the_worst_crop_to_what_changed(loop: Loop, tmp_path: Path) -> None:
    loop.page.goto(loop.address)
    expect(loop.page.locator("h1").first).to_contain_text("Runs", timeout=DRAWN_MS)
    worst, second = _ordered_crops(loop)
    _look_at_the_worst(loop, worst)
    corrected = _correct(loop, worst)
    _accept(loop, second)
    _look_at_the_slide(loop)
    accepted = _decide_on_regions(loop)
    _annotate(loop, accepted)
    said = _do("label-import runs/tiny/queue --recipe tiny.yaml").output
    assert "2 crops imported (0 replaced), 8 in all." in said
    said = _do("label-import runs/tiny/review/corrections --recipe tiny.yaml").output
    assert "1 crops imported (1 replaced), 8 in all." in said
    before = loop.evaluation()
    for line in ("train-interpreter tiny.yaml", "evaluate tiny.yaml"):
        _do(line)
    _see_what_changed(loop, before, corrected=corrected, added=accepted)


def _ordered_crops(loop: Loop) -> list[str]:
    crops = loop.evaluation()["crops"]
    ordered = sorted(crops, key=lambda crop: np.mean([value for value in crop["iou"] if value is not None]))
    return [crop["crop"] for crop in ordered[:2]]


def _look_at_the_worst(loop: Loop, worst: str) -> None:
    page = loop.page
    _turn_to(loop, "Gallery", "worst first")
    first = page.get_by_role("button", name="Look closer").first
    expect(page.locator("[class*=st-key-open-]").first).to_have_class(re.compile(f"st-key-open-{worst}"))
    first.click()
    expect(page.locator("h1").first).to_contain_text("Crop view", timeout=DRAWN_MS)
    expect(page.get_by_role("combobox", name="Crop, worst first")).to_have_value(worst, timeout=DRAWN_MS)
    expect(page.get_by_text("1 of 4")).to_be_visible(timeout=DRAWN_MS)


def _correct(loop: Loop, worst: str) -> str:
    """Fill an area of the annotation with another class, and save it."""
    page = loop.page
    _turn_to(loop, "Correct", "Correct")
    expect(page.get_by_role("combobox", name="Crop, worst first")).to_have_value(worst, timeout=DRAWN_MS)
    page.get_by_role("textbox", name="Your name").fill(AUTHOR)
    page.get_by_role("textbox", name="Your name").press("Enter")
    page.locator("h1").first.click()
    expect(page.locator("[data-part=save]")).to_be_enabled(timeout=DRAWN_MS)
    expect(page.locator(f'.editor[data-token*="/{worst}/"][aria-busy=false]')).to_be_visible(timeout=DRAWN_MS)
    with Image.open(loop.run / "evaluation" / "crops" / worst / "truth.png") as picture:
        before = np.asarray(picture)
    x, y = 20, 40
    wanted = (int(before[y, x]) + 1) % 3
    page.keyboard.press("f")
    page.keyboard.press(str(wanted + 1))
    above = page.locator("[data-part=above]")
    above.scroll_into_view_if_needed()
    box = above.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + (x + 0.5) * box["width"] / CROP_PX, box["y"] + (y + 0.5) * box["height"] / CROP_PX)
    expect(page.locator("[data-part=said]")).to_have_text("Not saved yet.")
    page.locator("[data-part=save]").click()
    expect(page.get_by_role("tab", name="This crop (1)")).to_be_visible(timeout=DRAWN_MS)
    ((saved,), problems) = find_corrections(corrections_folder(loop.run), worst)
    assert (saved.correction.author, saved.correction.started_from, problems) == (AUTHOR, "annotation", [])
    expected = np.where(flood(before, (y, x), connectivity=1), wanted, before)
    np.testing.assert_array_equal(read_correction(saved.path, loop.classes), expected)
    _row_says(page, AUTHOR, "corrected", "", worst, worst.rsplit("_", 2)[0])
    return worst


def _row_says(page: Page, *texts: str) -> None:
    """Read the latest entry of the log that is shown; the first column is the time."""
    for column, text in enumerate(texts, start=1):
        cell = page.get_by_test_id(f"glide-cell-{column}-0").first
        expect(cell).to_have_text(text, timeout=DRAWN_MS)


def _accept(loop: Loop, second: str) -> None:
    page = loop.page
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("combobox", name="Crop, worst first")).to_have_value(second, timeout=DRAWN_MS)
    _drawn(page)
    page.get_by_role("textbox", name="Comment").fill("a clear case")
    page.get_by_role("button", name="Accept").click()
    expect(page.get_by_role("tab", name="All crops (2)")).to_be_visible(timeout=DRAWN_MS)
    _row_says(page, AUTHOR, "accepted", "a clear case", second, second.rsplit("_", 2)[0])
    entries = read_entries(log_of(loop.run, f"sqlite:///{loop.home}/said.sqlite"))
    assert [(entry.action, entry.comment) for entry in entries] == [("corrected", ""), ("accepted", "a clear case")]


def _look_at_the_slide(loop: Loop) -> None:
    """Zoom in and switch layers on; what is drawn over the slide is what was predicted, and what was marked."""
    page = loop.page
    _turn_to(loop, "Slides", "Slides")
    _tiles_came(page)
    seen = float(page.locator(".sight .zoom").inner_text().removesuffix(" %"))
    page.get_by_role("button", name="Nearer").click()
    _tiles_came(page)
    assert float(page.locator(".sight .zoom").inner_text().removesuffix(" %")) == pytest.approx(1.6 * seen, rel=0.01)
    page.locator("label").filter(has_text="background").click()
    _tiles_came(page)
    _cover(page, "Class map")
    _tiles_came(page)
    colours = np.array(loop.classes.colours)
    inside = np.random.default_rng(0).integers(100, 156, (20, 2))
    found = _colours_at(page, inside)
    np.testing.assert_allclose(found, colours[loop.class_map()[inside[:, 1], inside[:, 0]]], atol=1)
    x, y = _a_marked_crop(loop)
    _go_to(page, x, y)
    page.get_by_text("Ground truth", exact=True).click()
    _tiles_came(page)
    _cover(page, "Ground truth")
    _tiles_came(page)
    inside = np.array((x, y)) + np.random.default_rng(1).integers(4, 60, (20, 2))
    np.testing.assert_allclose(_colours_at(page, inside), colours[loop.truth()[inside[:, 1], inside[:, 0]]], atol=1)


def _cover(page: Page, layer: str) -> None:
    """Set a layer's opacity to 100 %."""
    slider = page.get_by_role("slider", name=f"Opacity of {layer}")
    expect(slider).to_be_enabled(timeout=DRAWN_MS)
    slider.press("End")
    expect(slider).to_have_value("100", timeout=DRAWN_MS)
    page.wait_for_function(
        """(name) => [1, 2, 3].map((i) => window.sight.world.getItemAt(i))
          .some((item) => item.source.getTileUrl(0, 0, 0).includes(name) && item.getOpacity() === 1)""",
        arg=f"/{LAYERS[layer]}/",
        timeout=DRAWN_MS,
    )


def _tiles_came(page: Page) -> None:
    page.wait_for_timeout(600)  # the movement, and Streamlit's answer to the last click
    _drawn(page)
    page.wait_for_function(LOADED, arg=len(LAYERS), timeout=DRAWN_MS)
    page.wait_for_timeout(500)


def _a_marked_crop(loop: Loop) -> tuple[int, int]:
    index = json.loads((loop.run / "labels" / "index.json").read_text())
    name = next(entry["crop"] for entry in index["crops"] if entry["slide"] == SLIDE)
    _, x, y = name.rsplit("_", 2)
    return int(x), int(y)


def _go_to(page: Page, x: int, y: int) -> None:
    for label, value in (("x", x), ("y", y), ("Width", CROP_PX)):
        page.get_by_label(label, exact=True).fill(str(value))
    page.get_by_role("button", name="Go", exact=True).click()
    _tiles_came(page)


def _colours_at(page: Page, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give what the viewer has drawn at the middle of pixels of the slide, (N, 3), for their (x, y)."""
    drawn = page.evaluate(
        """(places) => {
          const item = window.sight.world.getItemAt(0);
          const canvas = window.sight.drawer.canvas;
          const scale = canvas.width / canvas.clientWidth;
          const at = ([x, y]) => item.imageToViewerElementCoordinates(new OpenSeadragon.Point(x + 0.5, y + 0.5));
          return [canvas.toDataURL("image/png"), places.map(at).map(({ x, y }) => [x * scale, y * scale])];
        }""",
        places.tolist(),
    )
    with Image.open(BytesIO(base64.b64decode(drawn[0].partition(",")[2]))) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(float)
    on_screen = np.floor(np.array(drawn[1])).astype(int)
    assert (on_screen >= 0).all()
    found: NDArray[np.float64] = pixels[on_screen[:, 1], on_screen[:, 0]]
    return found


def _decide_on_regions(loop: Loop) -> list[str]:
    """Accept the first region by its button, the next by a key, skip the one after; gives the accepted crops."""
    page = loop.page
    _turn_to(loop, "Annotate next", "Annotate next")
    first = _first_listed(page)
    page.get_by_role("button", name="Accept").first.click()
    expect(page.get_by_text(f"{first} waits in the queue to be corrected.")).to_be_visible(timeout=DRAWN_MS)
    _drawn(page)
    second = _first_listed(page)
    page.keyboard.press("a")
    expect(page.get_by_text(f"{second} waits in the queue to be corrected.")).to_be_visible(timeout=DRAWN_MS)
    _drawn(page)
    third = _first_listed(page)
    page.get_by_role("button", name="Skip").first.click()
    expect(page.get_by_text("Skipped: it will not be proposed again.")).to_be_visible(timeout=DRAWN_MS)
    expect(page.get_by_text("2 queued regions wait to be annotated")).to_be_visible()
    _drawn(page)
    assert len({first, second, third, _first_listed(page)}) == 4
    queue = loop.run / "queue"
    assert {path.name for path in queue.glob("made*")} == {
        f"{crop}{end}" for crop in (first, second) for end in (".png", ".json", ".crop.json")
    }
    items = json.loads((queue / "queue.json").read_text())["items"]
    assert [(item["crop"], item["state"]) for item in items] == [(first, "queued"), (second, "queued"), ("", "skipped")]
    for crop in (first, second):
        _is_the_region_with_its_prediction(loop, queue / f"{crop}.png")
    return [first, second]


def _first_listed(page: Page) -> str:
    said = page.get_by_test_id("stMain").get_by_text(re.compile(rf"^1\. {SLIDE}, x \d+, y \d+$"))
    expect(said).to_be_visible(timeout=DRAWN_MS)
    x, y = re.findall(r"[xy] (\d+)", said.inner_text())
    return f"{SLIDE}_{x}_{y}"


def _is_the_region_with_its_prediction(loop: Loop, picture: Path) -> None:
    x, y, width, height = json.loads(picture.with_suffix(".crop.json").read_text())["region"]
    assert (picture.stem, width, height) == (f"{SLIDE}_{x}_{y}", REGION_PX, REGION_PX)
    there = np.s_[y : y + height, x : x + width]
    slide = tifffile.imread(loop.home / "made" / "slides" / f"{SLIDE}.ome.tif")
    with Image.open(picture) as crop:
        np.testing.assert_array_equal(np.asarray(crop), slide[there])
    content = json.loads(picture.with_suffix(".json").read_text())
    assert {shape["shape_type"] for shape in content["shapes"]} == {"polygon"}
    assert {shape["label"] for shape in content["shapes"]} <= set(loop.classes.names)
    file = read_labelme(picture.with_suffix(".json"), root=picture.parent, problems=[])
    assert file is not None
    # Corners were moved a little and specks left out.
    assert np.mean(paint(file.annotation, loop.classes) == loop.class_map()[there]) > 0.8


def _annotate(loop: Loop, crops: list[str]) -> None:
    """Do what a person does in labelme: mark what is truly there, and save."""
    for crop in crops:
        path = loop.run / "queue" / f"{crop}.json"
        x, y = map(int, crop.rsplit("_", 2)[1:])
        truth = np.ascontiguousarray(loop.truth()[y : y + REGION_PX, x : x + REGION_PX])
        path.write_text(json.dumps(proposal(truth, loop.classes, picture=f"{crop}.png"), indent=2))


def _see_what_changed(loop: Loop, before: dict[str, Any], *, corrected: str, added: list[str]) -> None:
    page, now = loop.page, loop.evaluation()
    page.goto(loop.address)
    _turn_to(loop, "What changed", "What changed")
    main = page.get_by_test_id("stMain")
    expect(main.get_by_text("Crops trained with: 2 added")).to_be_visible(timeout=DRAWN_MS)
    expect(main.get_by_text("Crops tested on: 1 relabelled")).to_be_visible(timeout=DRAWN_MS)
    for what, crops in (("Added: 2", added), ("Marked otherwise: 1", [corrected])):
        main.get_by_text(what, exact=True).click()
        for row, crop in enumerate(sorted(crops)):
            table = page.get_by_test_id("stExpander").filter(has_text=what)
            expect(table.get_by_test_id(f"glide-cell-0-{row}")).to_have_text(crop, timeout=DRAWN_MS)
    mious = [found["methods"][0]["miou"] for found in (before, now)]
    assert mious[0] != mious[1]
    assert (before["train_crops"], now["train_crops"]) == (2, 4)
    table = main.get_by_test_id("stTable").first
    row = table.get_by_role("row").filter(has_text="Mean").first
    expect(row).to_contain_text(f"{mious[0]:.2f}", timeout=DRAWN_MS)
    expect(row).to_contain_text(f"{mious[1]:.2f}")
    _turn_to(loop, "Annotate next", "Annotate next")
    expect(main.get_by_text("Gain of the queued regions")).to_be_visible(timeout=DRAWN_MS)
    # The heading comes first, and the sentences below it in one piece.
    expect(main.get_by_text("crops then and")).to_be_visible(timeout=DRAWN_MS)
    _read_the_gain(main.inner_text(), before, now)


def _read_the_gain(said: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Compare every number of the sentences on the gain with the evaluations before and after."""
    (crops,) = re.findall(r"Trained on (\d+) crops then and (\d+) after", said)
    assert tuple(map(int, crops)) == (before["train_crops"], now["train_crops"])
    found = {
        what.lower(): tuple(map(float, numbers))
        for what, *numbers in re.findall(r"(.+): (\S+) before, (\S+) after \((\S+)\)", said)
    }
    then, after = (_ious(record["methods"][0]) for record in (before, now))
    known = {what for what in then if then[what] is not None and after[what] is not None}
    assert found.keys() == known >= {"mean iou"}
    for what, numbers in found.items():
        expected = (then[what], after[what], after[what] - then[what])
        assert numbers == pytest.approx(expected, abs=0.0006), what


def _ious(method: dict[str, Any]) -> dict[str, float | None]:
    return {"mean iou": method["miou"], **{f"iou {scores['name']}": scores["iou"] for scores in method["classes"]}}
