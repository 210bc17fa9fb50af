"""The whole job in a real browser, from slides to a signed-off result; the server is killed on the way."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from scipy import ndimage

from cytoseg.classes import IGNORE
from cytoseg.commands.review import streamlit_command
from cytoseg.geometry import Size
from cytoseg.jobs.job_database import JobPlace
from cytoseg.jobs.job_table import FINISHED, RUNNING, jobs_of
from cytoseg.labels.drawn_marks import drawn_of, read_marks
from cytoseg.labels.index import load_index
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.review.append_only import log_of
from cytoseg.review.slide_approvals import read_sign_offs
from cytoseg.shipped import shipped_review
from cytoseg.synthetic.generate import generate_slide
from cytoseg.writing import write_atomically
from tests.browser.conftest import free_port, open_page, start_server
from tests.browser.test_review_browser import DRAWN_MS
from tests.browser.test_viewer_browser import LOADED

pytestmark = pytest.mark.browser

CROP_PX, SLIDE_PX, SLIDES = 256, 384, 3
MOST_PX, LEAST_PX = (60, 20, 8), 5
"""Half the length of a mark of each class, where there is room, and the least: a stroke, a square, half a square."""
AUTHOR = "Anna Øster"


@dataclass
class Bench:
    """The app over a folder with slides and nothing else, and the page that works in it."""

    browser: Browser
    home: Path
    port: int
    server: subprocess.Popen[bytes]
    page: Page = field(init=False)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open()

    def open(self, path: str = "") -> None:
        """Open the app in a new browser window that knows nothing of an earlier one."""
        address = f"http://127.0.0.1:{self.port}"
        self.page = open_page(self.browser, address, width=1440)
        self.page.set_default_timeout(DRAWN_MS)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{address}/{path}")

    @property
    def run(self) -> Path:
        return self.home / "runs" / "story"

    def kill_and_start_again(self) -> None:
        """Kill the server without a word, start another, and load the page again."""
        self._restart()
        self.page.reload()

    def lose_everything(self, path: str) -> None:
        """Close the browser and kill the server without a word, and come back later in a new window."""
        self.page.context.close()
        self._restart()
        self.open(path)

    def _restart(self) -> None:
        self.server.kill()
        self.server.wait()
        self.server = _served(self.home, self.port)


def _served(home: Path, port: int) -> subprocess.Popen[bytes]:
    recipe = load_recipe("quickstart", [f"review.port={port}"])
    return start_server(streamlit_command(recipe, [home / "smears"]), port=port, folder=shipped_review())


@pytest.fixture
def bench(chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.chdir(tmp_path)
    for number in range(SLIDES):
        generate_slide(tmp_path / "smears" / f"smear_{number}.ome.tif", size=Size(SLIDE_PX, SLIDE_PX), seed=number)
    port = free_port()
    found = Bench(chromium, tmp_path, port, _served(tmp_path, port))
    yield found
    found.page.context.close()
    found.server.kill()
    found.server.wait()


@pytest.mark.slow  # a minute and a half: it starts the app and six commands
def test_from_slides_to_a_signed_off_result(bench: Bench) -> None:
    _new_project(bench)
    _annotate(bench)
    _train_through_a_kill(bench)
    _predict(bench)
    _approve(bench)
    _export(bench)
    assert bench.errors == []


def _new_project(bench: Bench) -> None:
    page = bench.page
    expect(page.locator("h1").first).to_contain_text("New project", timeout=DRAWN_MS)
    expect(page.get_by_text("smear_2.ome.tif: 384 x 384, 0.5 µm a pixel")).to_be_visible(timeout=DRAWN_MS)
    _type(page, "Name of the project", "story")
    _shot(bench, "new_project")
    page.get_by_role("button", name="Begin", exact=True).click()
    expect(page.locator("h1").first).to_contain_text("Annotate", timeout=DRAWN_MS)
    assert load_recipe("story.yaml").class_list().names == ("background", "cytoplasm", "nucleus")
    recipe = load_recipe("story.yaml", ["interpreter.members=2", "interpreter.steps=100"])  # a person has more time
    write_atomically(bench.run / "recipe.yaml", dump_recipe(recipe))


def _annotate(bench: Bench) -> None:
    """Mark crops of two slides with brush, rectangle and polygon, and see at once what that gives."""
    page = bench.page
    page.get_by_role("button", name="Cut a random crop").click()
    _rested(page)
    _type(page, "Your name", AUTHOR)
    crops: list[str] = []
    while len({crop.rsplit("_", 2)[0] for crop in crops}) < 2:
        if crops:
            page.get_by_role("button", name="New random crop").click()
        crops.append(_opened_crop(page, crops))
        _mark(bench, crops[-1])
        if not page.get_by_text("A crop of the test slide").count():
            _shot(bench, "annotate")
            page.locator("[data-layer=doubt]").click()
            _shot(bench, "uncertainty")
            page.locator("[data-layer=classes]").click()
        if len(crops) == 1:
            page = _come_back(bench, crops[0])
    index = load_index(bench.run / "labels")
    assert sorted(crop.crop for crop in index.crops) == sorted(crops)


def _come_back(bench: Bench, crop: str) -> Page:
    """Lose browser and server in the middle of a drawing; all that was said to be saved is there again."""
    bench.page.keyboard.press("b")
    bench.page.mouse.move(*_at(bench.page, 20, 230))
    bench.page.mouse.down()
    bench.lose_everything("annotate")
    page = bench.page
    expect(page.locator(f".editor[data-token*='/{crop}/'][aria-busy=false]")).to_be_visible(timeout=DRAWN_MS)
    _rested(page)
    _type(page, "Your name", AUTHOR)
    _are_the_marks(_marked(bench.run / "to_label" / f"{crop}.png"), _places(crop))
    return page


def _opened_crop(page: Page, before: list[str]) -> str:
    """Wait until a crop is open that was not before; gives its name."""
    known = "".join(f":not([data-token*='/{crop}/'])" for crop in before)
    editor = page.locator(f".editor[data-token*='/to_label/']{known}[aria-busy=false]")
    expect(editor).to_be_visible(timeout=DRAWN_MS)
    _rested(page)
    token = editor.get_attribute("data-token")
    assert token is not None
    return token.split("/")[2]


def _mark(bench: Bench, crop: str) -> None:
    page, said = bench.page, bench.page.locator("[data-part=said]")
    expect(said).to_have_text("Each stroke is saved.", timeout=DRAWN_MS)
    page.locator("h1").first.click()  # while a field has focus, keys are letters
    page.keyboard.press("b")
    page.keyboard.press("1")
    (x, y, half), square, corner = _places(crop)
    _drag(page, (x - half, y), (x + half, y))
    expect(said).to_have_text("Saved.", timeout=DRAWN_MS)
    page.keyboard.press("r")
    page.keyboard.press("2")
    x, y, half = square
    _drag(page, (x - half, y - half), (x + half, y + half))
    expect(said).to_have_text("Saved.", timeout=DRAWN_MS)
    page.keyboard.press("p")
    page.keyboard.press("3")
    x, y, half = corner
    for place in ((x - half, y - half), (x + half, y - half), (x + half, y + half)):
        page.mouse.click(*_at(page, *place))
    page.keyboard.press("Enter")
    expect(said).to_have_text("Saved.", timeout=DRAWN_MS)
    expect(page.get_by_text(re.compile(r"Trained on \d+ crops? in [\d.]+ s\."))).to_be_visible(timeout=DRAWN_MS)
    expect(page.locator(".editor[data-drawnclasses]")).to_be_visible(timeout=DRAWN_MS)
    _rested(page)
    picture = bench.run / "to_label" / f"{crop}.png"
    ids = _marked(picture)
    drawn = drawn_of(picture)
    assert drawn is not None
    assert drawn.author == AUTHOR
    _are_the_marks(ids, _places(crop))


def _places(crop: str) -> list[tuple[int, int, int]]:
    """Give for each class the place in a crop with the most room for a mark, x, y and half its length."""
    slide, left, upper = crop.rsplit("_", 2)
    truth = tifffile.imread(Path("smears") / f"{slide}.labels.ome.tif")
    truth = truth[int(upper) :, int(left) :][:CROP_PX, :CROP_PX]
    found = []
    for class_id, most in enumerate(MOST_PX):
        room = ndimage.distance_transform_edt(np.pad(truth == class_id, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(room.argmax(), room.shape)
        found.append((int(x), int(y), int(np.clip(room.max() / 2**0.5, LEAST_PX, most))))
    return found


def _marked(picture: Path) -> NDArray[np.uint8]:
    return read_marks(picture, (CROP_PX, CROP_PX), load_recipe("story.yaml").class_list()).ids


def _are_the_marks(ids: NDArray[np.uint8], places: list[tuple[int, int, int]]) -> None:
    """The brush of 8 px, the square and the triangle; nothing is said of the rest."""
    (x, y, half), square, corner = places
    assert set(ids[y - 3 : y + 3, x - half : x + half].ravel().tolist()) == {0}
    x, y, half = square
    assert abs(int((ids == 1).sum()) - 4 * half**2) <= 6 * half
    assert (ids[y - half + 2 : y + half - 2, x - half + 2 : x + half - 2] == 1).all()
    x, y, half = corner
    assert abs(int((ids == 2).sum()) - 2 * half**2) <= 5 * half
    assert ids[y - half + 2, x + half - 2] == 2
    assert ids[y + half - 2, x - half + 2] != 2
    assert (ids == IGNORE).mean() > 0.9


def _train_through_a_kill(bench: Bench) -> None:
    """Start the training, kill the server while it runs, and find marks and job again."""
    page = bench.page
    page.get_by_role("button", name="Train", exact=True).click()
    _until(lambda: [job.state for job in jobs_of(JobPlace(bench.run))] in ([RUNNING], [FINISHED]))
    bench.kill_and_start_again()
    expect(page.locator("h1").first).to_contain_text("Annotate", timeout=DRAWN_MS)
    expect(page.locator(".editor[aria-busy=false]")).to_be_visible(timeout=DRAWN_MS)
    _until(lambda: jobs_of(JobPlace(bench.run))[0].state == FINISHED)
    expect(page.get_by_text("1. Train: finished")).to_be_visible(timeout=DRAWN_MS)
    expect(page.get_by_text(f"Started by {AUTHOR}")).to_be_visible(timeout=DRAWN_MS)
    page.get_by_test_id("stSidebar").get_by_role("link", name="Jobs").click()
    expect(page.locator("h1").first).to_contain_text("Jobs", timeout=DRAWN_MS)
    _rested(page)
    _shot(bench, "train")
    assert (bench.run / "interpreter" / "bundle").is_dir()


def _predict(bench: Bench) -> None:
    page = bench.page
    page.get_by_test_id("stSidebar").get_by_role("link", name="Predict").click()
    expect(page.locator("h1").first).to_contain_text("Predict", timeout=DRAWN_MS)
    _rested(page)
    _type(page, "Your name", AUTHOR)
    box = page.get_by_role("combobox", name="Slides")
    box.fill("smear_0")
    box.press("Enter")
    page.locator("h1").first.click()
    page.get_by_role("button", name="Predict", exact=True).click()
    _until(
        lambda: (
            jobs_of(JobPlace(bench.run))[0].command == "predict"
            and jobs_of(JobPlace(bench.run))[0].state in (RUNNING, FINISHED)
        )
    )
    bench.lose_everything("predict")
    page = bench.page
    _until(
        lambda: (
            jobs_of(JobPlace(bench.run))[0].command == "predict" and jobs_of(JobPlace(bench.run))[0].state == FINISHED
        )
    )
    expect(page.get_by_role("button", name="Look")).to_be_visible(timeout=DRAWN_MS)
    _rested(page)
    _shot(bench, "predict")
    with page.expect_download() as saved:
        page.get_by_role("link", name="CSV").click()
    cells = pd.read_csv(saved.value.path())
    folder = bench.run / "predictions" / "smear_0"
    pd.testing.assert_frame_equal(cells, pd.read_csv(folder / "cells.csv"))
    assert json.loads((folder / "objects.geojson").read_text())["type"] == "FeatureCollection"
    ids = tifffile.imread(folder / "class_map.ome.tif")
    assert ids.shape == (SLIDE_PX, SLIDE_PX)
    assert set(np.unique(ids).tolist()) <= {0, 1, 2, IGNORE}


def _approve(bench: Bench) -> None:
    page = bench.page
    page.get_by_role("button", name="Look").click()
    expect(page.locator("h1").first).to_contain_text("Slides", timeout=DRAWN_MS)
    _type(page, "Your name", AUTHOR)
    page.locator("h1").first.scroll_into_view_if_needed()
    page.wait_for_function(LOADED, arg=3, timeout=DRAWN_MS)
    page.wait_for_timeout(500)  # the outlines
    _shot(bench, "look")
    page.get_by_role("heading", name="Objects").scroll_into_view_if_needed()
    _rested(page)
    _shot(bench, "objects")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text(f"smear_0: approved by {AUTHOR}.")).to_be_visible(timeout=DRAWN_MS)
    _rested(page)
    _shot(bench, "approve")
    (entry,) = read_sign_offs(log_of(bench.run, None))
    assert (entry.slide, entry.verdict, entry.author, len(entry.bundle)) == ("smear_0", "approved", AUTHOR, 64)


def _export(bench: Bench) -> None:
    """Take the table of the slides and the report, which both name who signed off."""
    page = bench.page
    page.get_by_test_id("stSidebar").get_by_role("link", name="Predict").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Slides (CSV)").click()
    (row,) = pd.read_csv(saved.value.path()).to_dict("records")
    assert (row["slide"], row["verdict"], row["author"], row["of this prediction"]) == (
        "smear_0",
        "approved",
        AUTHOR,
        "yes",
    )
    _rested(page)
    _shot(bench, "export")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Report").click()
    assert f"Signed off: approved by {AUTHOR}" in Path(saved.value.path()).read_text(encoding="utf-8")


def _until(happened: Callable[[], bool], wait_s: float = 150) -> None:
    end = time.monotonic() + wait_s
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.2)


def _type(page: Page, label: str, text: str) -> None:
    box = page.get_by_role("textbox", name=label)
    box.fill(text)
    box.press("Enter")
    _rested(page)


def _rested(page: Page) -> None:
    page.wait_for_timeout(300)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'",
        timeout=DRAWN_MS,
    )


def _at(page: Page, x: float, y: float) -> tuple[float, float]:
    """Give the place on the screen of a place on the crop."""
    box = page.locator("[data-part=above]").bounding_box()
    assert box is not None
    return box["x"] + x * box["width"] / CROP_PX, box["y"] + y * box["height"] / CROP_PX


def _drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*_at(page, *start))
    page.mouse.down()
    page.mouse.move(*_at(page, *end), steps=7)
    page.mouse.up()


def _shot(bench: Bench, name: str) -> None:
    """Take a picture; those of docs/workbench are made here."""
    bench.page.mouse.move(0, 0)
    bench.page.wait_for_timeout(300)  # a tooltip closes
    with Image.open(BytesIO(bench.page.screenshot())) as picture:
        picture.convert("RGB").save(bench.home / f"{name}.jpg", quality=72, subsampling=0, optimize=True)
