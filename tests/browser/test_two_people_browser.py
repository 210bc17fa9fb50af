"""Two people mark one crop at once in two browsers, and a third decides in a third one; nothing is lost."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from cytoseg.labels.drawn_marks import drawn_of, read_marks
from cytoseg.labels.index import load_index
from cytoseg.labels.readings import place_of, readings_of
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.review.append_only import log_of
from cytoseg.review.resolutions import read_resolutions
from tests.apps.sighted import CLASSES
from tests.apps.test_annotate import RECIPE
from tests.browser.conftest import APP, DRAWN_MS, free_port, open_page, rested, serve

pytestmark = [pytest.mark.browser, pytest.mark.slow]  # three browsers and a server of their own

SIDE_PX, CROP = 64, "board_0_0"


@pytest.fixture
def crop(tmp_path: Path) -> Path:
    """A crop of a run, without marks."""
    run = tmp_path / "runs" / "shared"
    path = run / "to_label" / f"{CROP}.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.full((SIDE_PX, SIDE_PX, 3), 200, np.uint8)).save(path)
    path.with_name(f"{CROP}.crop.json").write_text(json.dumps({"slide": "board", "region": [0, 0, SIDE_PX, SIDE_PX]}))
    short = tmp_path / "short.yaml"
    short.write_text(RECIPE.replace("name: sighted", "name: shared"))
    (run / "recipe.yaml").write_text(dump_recipe(load_recipe(str(short))))
    return path


@pytest.fixture
def address(crop: Path) -> Iterator[str]:
    """Serve the review over this run alone; its address without the last slash."""
    runs, port = crop.parents[2], free_port()
    flags = ["--server.address", "127.0.0.1", "--server.port", str(port), "--server.headless", "true"]
    command = [sys.executable, "-m", "streamlit", "run", str(APP), *flags, "--", "--runs", str(runs)]
    with serve(command, port=port, folder=runs.parent) as found:
        yield found


@pytest.fixture
def three(chromium: Browser, address: str) -> Iterator[list[Page]]:
    """Three browsers that know nothing of each other."""
    pages = [open_page(chromium, address) for _ in range(3)]
    yield pages
    for page in pages:
        page.context.close()


def _enter(page: Page, address: str, path: str, name: str) -> None:
    page.set_default_timeout(DRAWN_MS)
    page.goto(f"{address}/{path}", wait_until="domcontentloaded")
    expect(page.get_by_role("textbox", name="Your name")).to_be_visible(timeout=DRAWN_MS)
    rested(page)
    typed = page.get_by_role("textbox", name="Your name")
    typed.fill(name)
    typed.press("Enter")
    rested(page)


def _begin(page: Page) -> None:
    expect(page.locator(f".editor[data-token*='/{CROP}/'][aria-busy=false]")).to_be_visible(timeout=DRAWN_MS)
    expect(page.locator("[data-part=said]")).to_have_text("Each stroke is saved.", timeout=DRAWN_MS)
    page.locator("h1").first.click()  # while a field has focus, keys are letters


def _rectangle(page: Page, class_key: str, start: tuple[int, int], end: tuple[int, int]) -> None:
    for key in ("r", class_key):
        page.keyboard.press(key)
    page.locator("[data-part=above]").scroll_into_view_if_needed()
    box = page.locator("[data-part=above]").bounding_box()
    assert box is not None
    scale = box["width"] / SIDE_PX
    page.mouse.move(box["x"] + scale * start[0], box["y"] + scale * start[1])
    page.mouse.down()
    page.mouse.move(box["x"] + scale * end[0], box["y"] + scale * end[1], steps=5)
    page.mouse.up()


def _cells(crop: Path, person: str) -> int:
    return int((read_marks(place_of(crop, person), (SIDE_PX, SIDE_PX), CLASSES).ids == 1).sum())


def test_two_browsers_at_once_lose_nothing_and_a_third_resolves(address: str, crop: Path, three: list[Page]) -> None:
    anna, bo, cem = three
    for page, name in ((anna, "Anna"), (bo, "Bo")):
        _enter(page, address, "annotate", name)
        _begin(page)
    _rectangle(anna, "1", (8, 8), (40, 40))
    _rectangle(bo, "2", (8, 8), (40, 24))
    for page in (anna, bo):
        expect(page.locator("[data-part=said]")).to_have_text("Saved.", timeout=DRAWN_MS)
    assert sorted(one.drawn.author for one in readings_of(crop)) == ["Anna", "Bo"]
    assert (_cells(crop, "Anna"), abs(_cells(crop, "Bo") - 32 * 16) < 60) == (0, True)
    _enter(cem, address, "two_people", "Cem")
    expect(cem.get_by_text("Conflicts (1)")).to_be_visible(timeout=DRAWN_MS)
    cem.get_by_role("button", name="Take Bo's").click()
    expect(cem.get_by_text(f"{CROP}: resolved by Cem. Training uses these marks now.")).to_be_visible(timeout=DRAWN_MS)
    _rectangle(anna, "2", (44, 44), (60, 60))  # her window is still open
    rested(anna)
    expect(anna.locator("[data-part=said]")).to_have_text("Saved.", timeout=DRAWN_MS)
    (said,) = read_resolutions(log_of(crop.parents[1], None))
    assert (said.author, {said.first, said.second}) == ("Cem", {"Anna", "Bo"})
    drawn = drawn_of(crop)
    assert drawn is not None
    assert (drawn.author, set(drawn.resolves)) == ("Cem", {"Anna", "Bo"})
    (label,) = load_index(crop.parents[1] / "labels").crops
    assert int((label.label_map() == 1).sum()) == _cells(crop, "") == _cells(crop, "Bo")
    assert abs(_cells(crop, "Anna") - 16 * 16) < 60
