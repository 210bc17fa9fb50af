"""Every page of the review in a real browser: no exception box, known numbers, nothing wider than the screen."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import DRAWN_MS
from tests.browser.queued import NAME

pytestmark = pytest.mark.browser

OVERHANG = """() => {
  const main = document.querySelector("[data-testid=stMain]");
  return main.scrollWidth - main.clientWidth;
}"""
"""By how much the page is wider than its place. Streamlit hides what hangs over, so that the document tells nothing."""

PAGES = {
    "": ["Runs", "Created with the recipe quickstart", "Annotated crops"],
    "iou": ["Per-class IoU", "0.62 (0.55-0.68)", "n/a", "Random forest on 72 filters"],
    "confusion": ["Confusion matrix", "77.5 %", "n/a"],
    "gallery": ["Test crops, worst first", "smear_A_0_512", "0.71"],
    "crop": ["Crop view", "1 of 6", "0.41"],
    "correct": ["Correct", "1 of 6", "Save correction", "What a correction is for"],
    "slides": ["Slides", "its predicted classes"],
    "history": ["What changed", "Mean IoU rose from 0.71 to 0.81.", "+0.10", "Of 3 slides tested both times"],
    "queue": ["Annotate next", "1. smear_E, x ", "Accept", "Skip"],
}
RUNS = {"history": NAME, "queue": NAME}
"""Runs that are chosen at the side, for pages of which the first has nothing to show."""


def _open(page: Page, address: str, path: str) -> None:
    page.goto(f"{address}/{path}")
    expect(page.locator("h1").first).to_contain_text(PAGES[path][0], timeout=DRAWN_MS)
    if path in RUNS:
        box = page.get_by_role("combobox", name="Run")
        box.fill(RUNS[path])
        box.press("Enter")
        expect(box).to_have_value(RUNS[path], timeout=DRAWN_MS)
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0, timeout=DRAWN_MS)


@pytest.fixture
def page(visitor: BrowserContext) -> Iterator[Page]:
    opened = visitor.new_page()
    yield opened
    opened.close()


@pytest.mark.parametrize("path", PAGES)
def test_page_shows_known_numbers_and_asks_no_other_server(page: Page, address: str, tmp_path: Path, path: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    _open(page, address, path)
    for width in (1280, 1920):
        page.set_viewport_size({"width": width, "height": 1000})
        for text in PAGES[path]:
            expect(page.get_by_test_id("stMain").get_by_text(text).first).to_be_visible(timeout=DRAWN_MS)
        expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=DRAWN_MS)
        page.screenshot(path=tmp_path / f"{path or 'runs'}_{width}.png")
        assert page.get_by_test_id("stException").count() == 0
        assert page.get_by_test_id("stAlertContentError").count() == 0
        assert page.evaluate(OVERHANG) == 0
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def test_what_hangs_over_is_noticed(page: Page, address: str) -> None:
    _open(page, address, "iou")
    page.get_by_test_id("stMainBlockContainer").evaluate(
        "(main) => main.insertAdjacentHTML('beforeend', '<div style=\"width:3000px;height:9px\"></div>')"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert page.evaluate(OVERHANG) > 1000


def test_gallery_opens_the_chosen_crop(page: Page, address: str) -> None:
    _open(page, address, "gallery")
    # By the card's own key: while the page is still being drawn, the second button need not be the second card's.
    page.locator(".st-key-open-smear_A_256_512 button").click()
    expect(page.get_by_text("2 of 6")).to_be_visible(timeout=DRAWN_MS)
    expect(page.get_by_role("combobox", name="Crop, worst first")).to_have_value("smear_A_256_512", timeout=DRAWN_MS)
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("3 of 6")).to_be_visible(timeout=DRAWN_MS)
    assert page.get_by_test_id("stException").count() == 0
