"""Outlines of objects in a real browser: where they lie, which are drawn, and the one that is clicked."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.apps.sighted import add_objects
from tests.browser.conftest import DRAWN_MS
from tests.browser.test_viewer_browser import _open, _settled

pytestmark = pytest.mark.browser

PLACES = """() => [...document.querySelectorAll("*")].flatMap((one) => (one.shadowRoot ? [one.shadowRoot] : []))
  .concat(document).flatMap((root) => [...root.querySelectorAll(".outlines .line")])
  .map((path) => { const b = path.getBoundingClientRect(); return [path.dataset.id, b.x, b.y, b.width, b.height]; })"""
CORNER = """([x, y]) => {
  const item = sight.world.getItemAt(0);
  const at = sight.viewport.pixelFromPoint(item.imageToViewportCoordinates(x, y), true);
  const box = sight.element.getBoundingClientRect();
  return [at.x + box.x, at.y + box.y];
}"""


@pytest.fixture
def page(visitor: BrowserContext, address: str, served_run: Path) -> Iterator[Page]:
    folder = served_run.parent / "sighted" / "predictions" / "board"
    add_objects(folder, 4096)
    opened = visitor.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    opened.close()
    for name in ("objects.geojson", "cells.csv", "instances.ome.tif"):
        (folder / name).unlink()
    assert errors == []


def test_outlines_lie_on_their_objects_and_can_be_clicked(page: Page, address: str, tmp_path: Path) -> None:
    _open(page, address, "&x=0&y=0&width=400")
    lines = page.locator(".outlines .line")
    expect(lines).to_have_count(3, timeout=DRAWN_MS)
    _settled(page)
    drawn = {number: place for number, *place in page.evaluate(PLACES)}
    for number, left, top, size in (("1", 100, 0, 100), ("2", 0, 100, 100)):
        x, y, width, _ = drawn[number]
        corner, end = page.evaluate(CORNER, [left, top]), page.evaluate(CORNER, [left + size, top])
        assert (x, y) == pytest.approx(corner, abs=2)
        assert width == pytest.approx(end[0] - corner[0], abs=4)
    assert [one.is_visible() for one in lines.all()] == [True, True, False]  # the fill class is not shown
    at = page.evaluate(CORNER, [150, 50])
    page.mouse.click(*at)
    expect(page.locator(".outlines .chosen")).to_have_attribute("data-id", "1")
    expect(page.get_by_text("Object 1: cell")).to_be_visible(timeout=DRAWN_MS)
    page.wait_for_timeout(1500)
    page.screenshot(path=tmp_path / "outlines.png", full_page=True)
    page.get_by_text("background", exact=True).first.click()
    expect(lines.nth(2)).to_be_visible(timeout=DRAWN_MS)
    page.get_by_role("button", name="Whole slide").click()
    expect(page.locator(".outlines .dot.line")).to_have_count(1, timeout=DRAWN_MS)
    page.get_by_text("Outlines of objects", exact=True).click()
    expect(lines).to_have_count(0, timeout=DRAWN_MS)
