"""Every page by axe-core in both themes, nothing wider than the screen at 200 %, and a crop annotated by keys alone."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from cytoseg.classes import IGNORE
from cytoseg.labels.drawn_marks import read_marks
from cytoseg.labels.readings import place_of, save_reading
from cytoseg.recipe import dump_recipe, load_recipe
from tests.apps.sighted import CLASSES, make_run
from tests.apps.test_annotate import RECIPE
from tests.browser.conftest import APP, DRAWN_MS, free_port, open_page, rested, serve
from tests.browser.queued import NAME as QUEUED
from tests.browser.queued import add_queued_run
from tests.browser.test_review_browser import OVERHANG

pytestmark = pytest.mark.browser

SIDE_PX = 96
RUNS = {
    "": "quickstart",
    "new_project": "quickstart",
    "iou": "quickstart",
    "confusion": "quickstart",
    "history": QUEUED,
    "gallery": "quickstart",
    "crop": "quickstart",
    "slides": "sighted",
    "anomalies": "quickstart",
    "annotate": "shared",
    "predict": "sighted",
    "jobs": "sighted",
    "correct": "quickstart",
    "queue": QUEUED,
    "two_people": "shared",
}
"""The run that is chosen on each page, so that there is something to see."""


def _add_shared_run(base: Path) -> None:
    """Make base/runs/shared with a crop that two people have marked differently, and one that nobody has marked."""
    run = base / "runs" / "shared"
    path = run / "to_label" / "board_0_0.png"
    path.parent.mkdir(parents=True)
    for x in (0, SIDE_PX):
        name = f"board_{x}_0"
        Image.fromarray(np.full((SIDE_PX, SIDE_PX, 3), 200, np.uint8)).save(path.with_name(f"{name}.png"))
        path.with_name(f"{name}.crop.json").write_text(json.dumps({"slide": "board", "region": [x, 0, 96, 96]}))
    (base / "shared.yaml").write_text(RECIPE.replace("name: sighted", "name: shared"))
    (run / "recipe.yaml").write_text(dump_recipe(load_recipe(str(base / "shared.yaml"))))
    for person, right in (("Anna", 40), ("Bo", 60)):
        ids = np.full((SIDE_PX, SIDE_PX), IGNORE, np.uint8)
        ids[10:80, 10:80], ids[20:70, 20:right] = 0, 1
        save_reading(path, person, "2026-01-01", label_map=ids, classes=CLASSES, known=None)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seen")


@pytest.fixture(scope="module")
def page(chromium: Browser, served_run: Path, base: Path) -> Iterator[Page]:
    """A browser window on the review of four small runs."""
    port = free_port()
    shutil.copytree(served_run, base / "runs" / "quickstart")
    make_run(base, size_px=600)
    add_queued_run(base, base / "runs" / "quickstart")
    _add_shared_run(base)
    flags = ["--server.address", "127.0.0.1", "--server.port", str(port), "--server.headless", "true"]
    command = [sys.executable, "-m", "streamlit", "run", str(APP), *flags, "--", "--runs", str(base / "runs")]
    with serve(command, port=port, folder=base) as address:
        opened = open_page(chromium, address)
        opened.set_default_timeout(DRAWN_MS)
        opened.goto(address, wait_until="domcontentloaded")
        yield opened
        opened.context.close()


def _open(page: Page, path: str) -> None:
    address = "/".join(page.url.split("/")[:3])
    page.goto(f"{address}/{path}", wait_until="domcontentloaded")
    box = page.get_by_role("combobox", name="Run", exact=True)
    expect(box).to_be_visible(timeout=DRAWN_MS)
    box.fill(RUNS[path])
    box.press("Enter")
    expect(box).to_have_value(RUNS[path], timeout=DRAWN_MS)
    rested(page)
    name = page.get_by_role("textbox", name="Your name")
    if name.count():
        name.fill("Cem")
        name.press("Enter")
        rested(page)


def _findings(page: Page) -> list[str]:
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['id']}: {node['html'][:120]} {node['failureSummary'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def _choose_in_list(page: Page) -> None:
    """Choose by keys in a list of many choices, if the page has one."""
    box = page.get_by_test_id("stMultiSelect").get_by_role("combobox")
    if not box.count():
        return
    box.first.focus()
    _press(page, "ArrowDown")
    expect(page.get_by_role("listbox")).to_be_visible()
    assert _findings(page) == [], "open list"
    _press(page, "Enter", "Escape")
    expect(box.first).to_be_focused()
    expect(page.locator("[data-testid=stMultiSelect] [data-tag]").first).to_be_visible()
    rested(page)


@pytest.mark.parametrize("path", RUNS)
def test_axe_finds_nothing_serious_in_either_theme_and_200_percent_fits(page: Page, path: str) -> None:
    _open(page, path)
    _choose_in_list(page)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type] # one of its words
        page.wait_for_timeout(300)
        assert _findings(page) == [], scheme
    page.set_viewport_size({"width": 640, "height": 500})  # 1280 px at 200 %
    page.wait_for_timeout(300)
    assert page.evaluate(OVERHANG) <= 0
    assert _findings(page) == [], "dark at 200 %"
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.emulate_media(color_scheme="light")


def _press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def _marks(base: Path, crop: str, person: str) -> NDArray[np.uint8]:
    picture = place_of(base / "runs" / "shared" / "to_label" / f"{crop}.png", person)
    return read_marks(picture, (SIDE_PX, SIDE_PX), CLASSES).ids


def test_a_crop_is_annotated_by_keys_alone(page: Page, base: Path, tmp_path: Path) -> None:
    _open(page, "annotate")
    ready, told = "[aria-busy=false]", page.locator("[data-part=told]")
    expect(page.locator(f".editor[data-token*='/board_96_0/']{ready}")).to_be_visible(timeout=DRAWN_MS)
    page.locator("[data-tool=smart]").focus()
    while not page.locator("[data-part=above].steered").count():
        _press(page, "Tab")
    expect(told).to_contain_text("background; zoom")
    expect(told).to_contain_text("x 48, y 48: unmarked")
    _press(page, "2", *"[[[[[[[")
    expect(told).to_have_text("Brush 1")
    _press(page, "Shift+ArrowLeft", "Space")  # a dot
    expect(told).to_have_text("x 38, y 48: cell")
    _press(page, "ArrowUp", "ArrowUp", "Enter", "Shift+ArrowUp", "Enter")  # a line
    expect(told).to_have_text("lifted; x 38, y 36: cell")
    _press(page, "1", "r", "Shift+ArrowRight", "Enter", "Shift+ArrowRight", "Shift+ArrowDown")
    expect(told).to_have_text("drawing; x 58, y 46: unmarked")
    _press(page, "Enter", "p", "Shift+ArrowRight", "Space", "Shift+ArrowRight", "Space", "Shift+ArrowDown", "Space")
    page.screenshot(path=tmp_path / "polygon.png")
    _press(page, "Enter", "Control+z", "Control+y", "+", "f", "2", "ArrowUp", "ArrowLeft", "Space")
    page.screenshot(path=tmp_path / "filled.png")
    expect(page.locator("[data-part=said]")).to_have_text("Saved.", timeout=DRAWN_MS)
    ids = _marks(base, "board_96_0", "Cem")
    assert (ids[48, 38], ids[47, 38], set(ids[36:47, 38].tolist())) == (1, IGNORE, {1})
    assert (ids == 0).sum() == 10 * 10
    assert set(ids[36:46, 48:58].ravel().tolist()) == {0}
    assert ids[47, 70] == ids[54, 77] == 1  # the triangle, first background and then filled
    assert ids[54, 70] == IGNORE
    _press(page, "?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.screenshot(path=tmp_path / "keys.png")
    assert _findings(page) == []
    _press(page, "b", "Escape")  # its keys are not the crop's
    expect(page.locator("[data-part=above]:focus")).to_be_visible()
    _press(page, "Escape")  # the crop lets the keyboard go
    expect(page.locator("[data-tool=fill]:focus")).to_be_visible()
    _press(page, "Shift+N")
    expect(page.locator(f".editor[data-token*='/board_0_0/']{ready}")).to_be_visible(timeout=DRAWN_MS)
    rested(page)
    _press(page, "g", "Space")
    expect(told).to_have_text("x 48, y 48: cell")
