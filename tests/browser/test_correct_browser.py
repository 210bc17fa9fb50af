"""Correct in a real browser: paint, undo, fill, save, and read what was written."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from cytoseg.classes import ClassList
from cytoseg.labels.corrections import SavedCorrection, corrections_folder, find_corrections, read_correction
from cytoseg.review.append_only import log_of
from cytoseg.review.review_log import read_entries
from tests.browser.conftest import DRAWN_MS, open_page

pytestmark = pytest.mark.browser

SIDE_PX = 128
CLASSES = ClassList(("background", "cytoplasm", "nucleus", "debris"), ((0, 0, 0),) * 4, "background")


@pytest.fixture
def page(visitor: BrowserContext, address: str) -> Iterator[Page]:
    visitor.clear_cookies(name=re.compile("cytoseg_name"))  # what the test before has typed
    page = visitor.new_page()
    page.goto(f"{address}/correct")
    expect(page.locator("h1").first).to_contain_text("Correct", timeout=DRAWN_MS)
    _settled(page)
    yield page
    assert page.get_by_test_id("stException").count() == 0
    page.close()


def _settled(page: Page, showing: str = "/") -> None:
    """Wait until the page rests and the editor shows what has ``showing`` in its token: crop, file and so on."""
    expect(page.locator(f'.editor[data-token*="{showing}"][aria-busy=false]')).to_be_visible(timeout=DRAWN_MS)
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0, timeout=DRAWN_MS)


def _name(page: Page, name: str) -> None:
    page.get_by_role("textbox", name="Your name").fill(name)
    page.get_by_role("textbox", name="Your name").press("Enter")
    page.locator("h1").first.click()  # while a field has focus, keys are letters
    expect(page.locator("[data-part=save]")).to_be_enabled(timeout=DRAWN_MS)


def _choose(page: Page, crop: str) -> None:
    box = page.get_by_role("combobox", name="Crop, worst first")
    box.fill(crop)
    box.press("Enter")
    expect(box).to_have_value(crop, timeout=DRAWN_MS)
    page.locator("h1").first.click()
    _settled(page, f"/{crop}/")


def _begin_from(page: Page, what: str) -> None:
    page.get_by_role("radio", name=what).click()
    expect(page.get_by_role("radio", name=what)).to_be_checked(timeout=DRAWN_MS)
    _settled(page, {"Prediction": "/prediction.png/", "Annotation": "/truth.png/"}[what])


def _said(page: Page) -> Locator:
    return page.locator("[data-part=said]")


def _at(page: Page, x: float, y: float) -> tuple[float, float]:
    """Give the place on the screen of a place on the crop."""
    box = page.locator("[data-part=above]").bounding_box()
    assert box is not None
    return box["x"] + x * box["width"] / SIDE_PX, box["y"] + y * box["height"] / SIDE_PX


def _drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.locator("[data-part=above]").scroll_into_view_if_needed()
    page.mouse.move(*_at(page, *start))
    page.mouse.down()
    page.mouse.move(*_at(page, *end), steps=7)
    page.mouse.up()


def _size(page: Page, size: int) -> None:
    page.locator("[data-part=size]").fill(str(size))


def _prediction(run: Path, crop: str) -> NDArray[np.uint8]:
    with Image.open(run / "evaluation" / "crops" / crop / "prediction.png") as picture:
        return np.asarray(picture)


def _saved(run: Path, crop: str) -> list[SavedCorrection]:
    found, problems = find_corrections(corrections_folder(run), crop)
    assert problems == []
    return found


def _save(page: Page) -> None:
    page.locator("[data-part=save]").click()
    expect(page.get_by_test_id("stToast").get_by_text("your correction is saved")).to_be_visible(timeout=DRAWN_MS)
    expect(_said(page)).to_have_text("No changes.", timeout=DRAWN_MS)


def _distance(start: tuple[float, float], end: tuple[float, float]) -> NDArray[np.float64]:
    """Distance of each pixel's centre from a line, by trying many points of it."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] + 0.5
    along = np.linspace(start, end, 400)
    return np.min([np.hypot(x - px, y - py) for px, py in along], axis=0)


def test_what_is_painted_and_filled_is_what_is_saved_and_logged(page: Page, served_run: Path) -> None:
    crop = "smear_A_0_512"
    _choose(page, crop)
    _name(page, "Anna Øster")
    _begin_from(page, "Prediction")
    _size(page, 10)
    page.keyboard.press("3")
    _drag(page, (30, 100), (90, 70))
    expect(_said(page)).to_have_text("Not saved yet.")
    page.keyboard.press("Control+z")
    expect(_said(page)).to_have_text("No changes.")
    page.keyboard.press("Control+y")
    expect(_said(page)).to_have_text("Not saved yet.")
    page.keyboard.press("f")
    page.keyboard.press("4")
    page.mouse.click(*_at(page, 60, 85))
    _save(page)
    (saved,) = _saved(served_run, crop)
    assert (saved.correction.author, saved.path.parent.name) == ("Anna Øster", crop)
    found, before = read_correction(saved.path, CLASSES), _prediction(served_run, crop)
    away = _distance((30, 100), (90, 70))
    # The fill has gone from the stroke on to whatever nucleus it touched.
    assert set(found[away < 4.6]) == {3}
    untouched = (away > 5.4) & (found != 3)
    np.testing.assert_array_equal(found[untouched], before[untouched])
    assert set(before[(away > 5.4) & (found == 3)]) <= {2}
    (entry,) = read_entries(log_of(served_run, None), crop=crop)
    assert (entry.author, entry.action, entry.sha256) == ("Anna Øster", "corrected", saved.sha256)
    # Work restarted from the same state as the saved one is kept like any other.
    _begin_from(page, "Prediction")
    expect(_said(page)).to_have_text("No changes.")
    page.keyboard.press("b")
    _drag(page, (3, 3), (40, 3))
    for start, said in (("Annotation", "No changes."), ("Prediction", "Not saved yet.")):
        _begin_from(page, start)
        expect(_said(page)).to_have_text(said, timeout=DRAWN_MS)
    expect(page.get_by_role("tab", name="This crop (1)")).to_be_visible(timeout=DRAWN_MS)


def test_a_polygon_and_the_eraser_paint_the_pixels_whose_centres_they_cover(page: Page, served_run: Path) -> None:
    crop = "smear_A_256_512"
    _choose(page, crop)
    _name(page, "Anna Øster")
    _begin_from(page, "Prediction")
    page.keyboard.press("0")
    page.keyboard.press("p")
    page.locator("[data-part=above]").scroll_into_view_if_needed()
    for corner in ((10, 10), (50, 10), (50, 40)):
        page.mouse.click(*_at(page, *corner))
    page.keyboard.press("Enter")
    page.keyboard.press("e")
    _size(page, 8)
    _drag(page, (20, 100), (100, 100))
    _save(page)
    found, before = read_correction(_saved(served_run, crop)[0].path, CLASSES), _prediction(served_run, crop)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] + 0.5
    slope = 10 + (x - 10) * 30 / 40 - y
    triangle, edge = (y > 10) & (x < 50) & (slope > 0), (np.abs(slope) < 0.3) & (x < 51)
    assert set(found[triangle & ~edge]) == {255}
    away = _distance((20, 100), (100, 100))
    assert set(found[away < 3.7]) == {0}
    untouched = ~triangle & ~edge & (away > 4.3)
    np.testing.assert_array_equal(found[untouched], before[untouched])


def test_keys_go_on_and_accept_and_work_that_is_not_saved_waits(page: Page, served_run: Path) -> None:
    crop = "smear_A_512_512"
    _choose(page, crop)
    place = page.get_by_test_id("stMain").get_by_text(" of 6").first.inner_text()
    page.keyboard.press("2")
    _drag(page, (5, 5), (60, 5))
    expect(_said(page)).to_have_text("Not saved yet. Type your name to save.")
    page.keyboard.press("ArrowRight")
    following = f"{int(place.split()[0]) + 1} of 6"
    expect(page.get_by_test_id("stMain").get_by_text(following)).to_be_visible(timeout=DRAWN_MS)
    expect(_said(page)).to_have_text("No changes. Type your name to save.", timeout=DRAWN_MS)
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_test_id("stMain").get_by_text(place)).to_be_visible(timeout=DRAWN_MS)
    expect(_said(page)).to_have_text("Not saved yet. Type your name to save.", timeout=DRAWN_MS)
    _name(page, "Ben")
    page.get_by_role("textbox", name="Comment").press_sequentially("a clear case")
    page.locator("h1").first.click()
    _settled(page)
    page.keyboard.press("a")
    expect(page.get_by_role("tab", name="This crop (1)")).to_be_visible(timeout=DRAWN_MS)
    (entry,) = read_entries(log_of(served_run, None), crop=crop)
    assert (entry.author, entry.action, entry.comment) == ("Ben", "accepted", "a clear case")
    assert _saved(served_run, crop) == []


def test_two_people_who_save_the_same_crop_both_keep_their_work(
    page: Page, chromium: Browser, address: str, served_run: Path
) -> None:
    crop = "smear_B_1024_512"
    other = open_page(chromium, address, width=1920)
    other.goto(f"{address}/correct")
    expect(other.locator("h1").first).to_contain_text("Correct", timeout=DRAWN_MS)
    _settled(other)
    for one, name, key in ((page, "Anna Øster", "2"), (other, "Ben", "3")):
        _choose(one, crop)
        _name(one, name)
        one.keyboard.press(key)
        _drag(one, (64, 20), (64, 110))
    _save(page)
    _save(other)
    assert sorted(saved.correction.author for saved in _saved(served_run, crop)) == ["Anna Øster", "Ben"]
    values = {read_correction(saved.path, CLASSES)[60, 64] for saved in _saved(served_run, crop)}
    assert values == {1, 2}
    expect(other.get_by_role("heading", name="Agreement")).to_be_visible(timeout=DRAWN_MS)
    other.context.close()


def test_smart_select_takes_a_nucleus_and_the_keyboard_alone_paints(
    page: Page, served_run: Path, tmp_path: Path
) -> None:
    crop = "smear_B_768_512"
    _choose(page, crop)
    _name(page, "Cleo")
    page.keyboard.press("4")
    page.keyboard.press("s")
    expect(page.locator(".editor[data-smart=ready]")).to_be_visible(timeout=DRAWN_MS)
    with Image.open(served_run / "evaluation" / "crops" / crop / "image.png") as picture:
        dark = np.asarray(picture.convert("L")) < 80
    y, x = (float(place) + 0.5 for place in np.argwhere(dark)[len(np.argwhere(dark)) // 2])
    page.locator("[data-part=above]").scroll_into_view_if_needed()
    page.mouse.move(*_at(page, x, y))
    parts = page.locator("[data-part=parts]")
    for _ in range(2):
        page.mouse.wheel(0, -100)
    expect(parts).to_have_value("3")
    page.screenshot(path=tmp_path / "smart.png")
    page.mouse.click(*_at(page, x, y))
    page.mouse.move(*_at(page, 3, 3))
    page.mouse.wheel(0, 100)
    expect(parts).to_have_value("2")
    page.keyboard.press("]")
    expect(parts).to_have_value("3")
    page.mouse.click(*_at(page, 3, 3))
    page.keyboard.press("Control+z")
    page.mouse.move(0, 0)
    page.keyboard.press("b")
    _size(page, 3)
    page.locator("[data-part=save]").focus()
    page.keyboard.press("Tab")
    expect(page.locator("[data-part=above].steered")).to_be_visible()
    for key in ("Shift+ArrowLeft", "ArrowUp", "Space"):
        page.keyboard.press(key)
    _save(page)
    found = read_correction(_saved(served_run, crop)[0].path, CLASSES)
    painted = found == 3
    assert painted[63, 54]  # by the keyboard, from the middle
    assert painted[int(y), int(x)]
