"""The editor in a real browser: what is proposed is moved and deleted, and Fit shows the whole crop."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import APP, DRAWN_MS, free_port, open_page, serve

pytestmark = [pytest.mark.browser, pytest.mark.slow]  # it starts an app of its own

SCRIPT = f"""\
import sys
sys.path.insert(0, {str(APP.parent)!r})
import editor
import numpy as np
import streamlit as st
from cytoseg.classes import ClassList
st.set_page_config(layout="wide")
proposed = np.full((60, 80), 255, np.uint8)
proposed[10:20, 10:20] = 1
proposed[10:20, 50:60] = 1
proposed[40:50, 30:40] = 0
editor.draw(np.full((60, 80, 3), 200, np.uint8), np.full((60, 80), 255, np.uint8),
    ClassList(("cell", "nucleus"), ((0, 90, 160), (160, 90, 0)), "cell"),
    token="made", draft="made", may_save=True, saved_stroke=0, proposed=proposed)
drawn = editor.strokes_of("made", (60, 80))
if drawn is not None:
    ids = drawn.ids
    boxes = [(int(k), *np.argwhere(ids == k).min(0).tolist(), *np.argwhere(ids == k).max(0).tolist()) for k in (0, 1)
        if (ids == k).any()]
    st.text(f"marked {{boxes}}")
"""
"""A page of nothing but the editor; it says the class, first row and column, last row and column of what is marked."""


FITTED = """() => {
  const parts = document.querySelectorAll('*');
  const root = [...parts].map((one) => (one.shadowRoot ?? one).querySelector?.('.editor')).find(Boolean);
  const box = (name) => root.querySelector(`[data-part=${name}]`).getBoundingClientRect();
  const factor = Number(root.querySelector('[data-part=factor]').textContent.slice(1));
  return [box('canvas').right, box('told').bottom, factor, box('scroll').right];
}"""
"""Right edge of the crop, where the line below it ends, its zoom, and where the room for it ends."""


@pytest.fixture
def page(chromium: Browser, tmp_path: Path) -> Iterator[Page]:
    script, port = tmp_path / "page.py", free_port()
    script.write_text(SCRIPT)
    flags = ["--server.address", "127.0.0.1", "--server.port", str(port), "--server.headless", "true"]
    with serve([sys.executable, "-m", "streamlit", "run", str(script), *flags], port=port, folder=tmp_path) as address:
        opened = open_page(chromium, address)
        opened.set_default_timeout(DRAWN_MS)
        opened.goto(address)
        expect(opened.locator(".editor[data-token=made][aria-busy=false]")).to_be_visible(timeout=DRAWN_MS)
        yield opened
        opened.context.close()


def _at(page: Page, x: float, y: float) -> tuple[float, float]:
    box = page.locator("[data-part=above]").bounding_box()
    assert box is not None
    return box["x"] + x * box["width"] / 80, box["y"] + y * box["height"] / 60


def test_a_proposal_is_moved_deleted_and_taken_by_mouse_and_by_keys(page: Page, tmp_path: Path) -> None:
    told = page.locator("[data-part=told]")
    page.locator("[data-tool=move]").click()
    page.mouse.move(*_at(page, 15.5, 15.5))
    page.mouse.down()
    page.mouse.move(*_at(page, 20.5, 18.5), steps=4)
    page.mouse.up()
    page.locator("[data-tool=drop]").click()
    page.mouse.click(*_at(page, 55.5, 15.5))
    page.keyboard.press("g")
    for key in ("m", "Shift+ArrowDown", "ArrowLeft", "Space"):  # from 55, 15, beside what is proposed
        page.keyboard.press(key)
    expect(told).to_have_text("nothing proposed here; x 54, y 25: unmarked")
    for key in ("Shift+ArrowLeft", "Shift+ArrowLeft", "Shift+ArrowDown", "Shift+ArrowDown"):
        page.keyboard.press(key)
    expect(told).to_have_text("x 34, y 45: unmarked, proposed cell")
    for key in ("Space", "ArrowRight"):
        page.keyboard.press(key)
    expect(told).to_have_text("moving cell; x 35, y 45: unmarked, proposed cell")
    page.screenshot(path=tmp_path / "moving.png")
    page.keyboard.press("Space")
    expect(told).to_have_text("moved cell; x 35, y 45: unmarked, proposed cell")
    page.locator("[data-part=takeall]").click()
    expect(page.get_by_text("marked [(0, 40, 31, 49, 40), (1, 13, 15, 22, 24)]")).to_be_visible(timeout=DRAWN_MS)
    page.keyboard.press("Control+z")
    expect(page.get_by_text("marked []")).to_be_visible(timeout=DRAWN_MS)
    for _ in range(3):  # the two moves and what was deleted
        page.keyboard.press("Control+z")
    page.locator("[data-part=above]").focus()
    page.keyboard.press("g")
    page.keyboard.press("d")
    page.keyboard.press("Space")
    expect(told).to_have_text("deleted cell; x 35, y 45: unmarked")
    page.locator("[data-part=takeall]").click()
    expect(page.get_by_text("marked [(1, 10, 10, 19, 59)]")).to_be_visible(timeout=DRAWN_MS)


def test_the_whole_crop_fits_into_the_window_as_large_as_may_be(page: Page) -> None:
    for width, height, least in ((1280, 720, 4), (1920, 1080, 8), (3840, 2160, 15)):
        page.set_viewport_size({"width": width, "height": height})
        page.locator("[data-part=fit]").click()
        page.wait_for_timeout(500)
        right, bottom, factor, end = page.evaluate(FITTED)
        assert right <= end
        assert bottom <= height
        assert factor > least
        assert factor == 16 or bottom + 0.25 * 60 > height - 6 or right + 0.25 * 80 > end - 1  # no larger one would fit
        page.locator("[data-part=closer]").click()
        assert page.evaluate(FITTED)[1] <= height  # what is enlarged is scrolled in its own box
