"""Two predictions of a slide in a real browser: the swipe, its keys, and two viewers that move together."""

import base64
import json
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

from cytoseg.evaluation.run_folder import time_text
from cytoseg.geometry import Size
from cytoseg.predict.kept_versions import versions_of
from cytoseg.slides.pyramid import write_pyramid
from tests.apps.sighted import CELL, GLASS, MPP, squares
from tests.browser.conftest import DRAWN_MS
from tests.browser.test_viewer_browser import BLUE, LOADED, _half, _open, _share_like, _wait_for

pytestmark = pytest.mark.browser

SWIPED = 5  # layers in one viewer: three of this run, two of the other
BOUNDS = """() => [...window.sight.element.parentNode.querySelectorAll(".canvas")].map((element) => {
  const bounds = OpenSeadragon.getViewer?.(element)?.viewport.getBounds(true);
  return bounds && [bounds.x, bounds.y, bounds.width, bounds.height];
})"""
"""Where each of the two viewers is."""

SAME = f"""() => {{
  const [one, two] = ({BOUNDS})();
  return two && one.every((value, i) => Math.abs(value - two[i]) < 1e-6);
}}"""


@pytest.fixture(scope="module")
def swapped(address: str, served_run: Path) -> Iterator[None]:
    """A copy of the run whose class map says cell where the other says background."""
    first = served_run.parent / "sighted"
    run = shutil.copytree(first, first.with_name("swapped"))
    _swap(run)
    yield
    shutil.rmtree(run)


def _swap(run: Path) -> None:
    """Predict cell where the class map says background, and background where it says cell."""
    ids, size = 1 - squares(4096), Size(4096, 4096)
    path = run / "predictions" / "board" / "class_map.ome.tif"
    path.unlink()
    write_pyramid(path, [ids.astype(np.uint8)], size=size, mpp=MPP, categorical=True)


def _made(run: Path, made: str, bundle: str) -> None:
    """Say when and by which bundle the prediction was made."""
    path = run / "predictions" / "board" / "summary.json"
    summary = json.loads(path.read_text())
    summary["provenance"]["bundle"] = {"sha256": {"weights": bundle}}
    path.unlink()  # a kept version has the same file
    path.write_text(json.dumps({**summary, "made": made}))


@pytest.fixture
def page(visitor: BrowserContext, address: str, swapped: None) -> Iterator[Page]:
    opened = visitor.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    _open(opened, address, "&x=1000&y=1000&width=400")
    box = opened.get_by_role("combobox", name="Compare with")
    box.fill("swapped")
    box.press("Enter")
    opened.wait_for_function(LOADED, arg=SWIPED, timeout=DRAWN_MS)
    yield opened
    opened.close()
    assert errors == []


def _is_first(seen: NDArray[np.int64]) -> bool:
    return _share_like(seen, GLASS, _half(CELL, BLUE)) > 0.9


def _is_second(seen: NDArray[np.int64]) -> bool:
    return _share_like(seen, CELL, _half(GLASS, BLUE)) > 0.9


def _swiped(page: Page, share: float) -> None:
    """Wait until the viewer shows the first run left of a share of its width, and the second right of it."""

    def holds(seen: NDArray[np.int64]) -> bool:
        edge = round(share * seen.shape[1])
        left, right = seen[:, : max(0, edge - 8)], seen[:, edge + 8 :]
        return (not left.size or _is_first(left)) and (not right.size or _is_second(right))

    _wait_for(page, holds, layers=SWIPED)


def test_a_line_is_swiped_between_two_runs(page: Page, tmp_path: Path) -> None:
    _swiped(page, 0.5)
    page.screenshot(path=tmp_path / "swipe.png")
    seam = page.get_by_role("slider", name="Swipe")
    expect(seam).to_have_attribute("aria-valuetext", "50 % sighted")
    seam.press("PageUp")
    _swiped(page, 0.6)
    seam.press("Home")
    _swiped(page, 0)
    seam.press("End")
    _swiped(page, 1)
    page.locator(".sight .canvas").first.click()
    for _ in range(5):
        page.keyboard.press("[")
    expect(seam).to_have_attribute("aria-valuenow", "90")
    line, sight = seam.bounding_box(), page.locator(".sight").bounding_box()
    assert line is not None
    assert sight is not None
    page.mouse.move(line["x"] + line["width"] / 2, line["y"] + 200)
    page.mouse.down()
    page.mouse.move(sight["x"] + 0.25 * sight["width"], line["y"] + 220, steps=5)
    page.mouse.up()
    _swiped(page, 0.25)
    page.get_by_role("button", name="Nearer").click()
    _swiped(page, 0.25)


def test_two_viewers_move_together(page: Page, tmp_path: Path) -> None:
    page.get_by_text("Side by side", exact=True).click()
    page.wait_for_function(LOADED, arg=3, timeout=DRAWN_MS)
    page.wait_for_function(SAME, timeout=DRAWN_MS)
    page.wait_for_timeout(1500)  # the tiles of the second viewer
    page.screenshot(path=tmp_path / "side.png")
    before = page.evaluate(BOUNDS)
    page.get_by_role("button", name="Nearer").click()
    page.wait_for_function(f"({BOUNDS})()[1][2] < {0.7 * before[1][2]}", timeout=DRAWN_MS)
    page.wait_for_function(SAME, timeout=DRAWN_MS)
    box = page.locator(".sight .second").bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 90, middle[1] - 30, steps=5)
    page.mouse.up()
    page.wait_for_function(f"({BOUNDS})()[0][0] > {before[0][0]}", timeout=DRAWN_MS)
    page.wait_for_function(SAME, timeout=DRAWN_MS)
    page.get_by_text("Swipe", exact=True).click()
    page.wait_for_function(LOADED, arg=SWIPED, timeout=DRAWN_MS)
    expect(page.locator(".sight .second")).to_be_hidden()


def _second_viewer(page: Page) -> NDArray[np.int64]:
    """Read what the right one of two viewers has drawn, (H, W, 3)."""
    text = page.evaluate(
        "OpenSeadragon.getViewer(sight.element.parentNode.querySelectorAll('.canvas')[1]).drawer.canvas.toDataURL()"
    )
    with Image.open(BytesIO(base64.b64decode(text.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGB")).astype(np.int64)


@pytest.fixture
def versioned(address: str, served_run: Path) -> Iterator[Path]:
    """A copy of the run whose prediction says when and by which bundle it was made."""
    first = served_run.parent / "sighted"
    run = shutil.copytree(first, first.with_name("versioned"))
    _made(run, "2026-03-01T10:00:00+00:00", "a")
    yield run
    shutil.rmtree(run)


@pytest.mark.slow
def test_two_kept_versions_of_a_prediction_are_compared(
    visitor: BrowserContext, address: str, versioned: Path, tmp_path: Path
) -> None:
    page = visitor.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    where = f"{address}/slides?run=versioned&slide=board&x=1000&y=1000&width=400"
    for again in (False, True):
        if again:
            _swap(versioned)
            _made(versioned, "2026-04-01T10:00:00+00:00", "b")
        page.goto(where)
        page.get_by_role("button", name="Keep this version").click(timeout=DRAWN_MS)
        expect(page.get_by_text("This version is kept.")).to_be_visible(timeout=DRAWN_MS)
    later, earlier = versions_of(versioned, "board")
    assert (later.made, earlier.made) == ("2026-04-01T10:00:00+00:00", "2026-03-01T10:00:00+00:00")
    box = page.get_by_role("combobox", name="Compare with")
    box.fill(f"{time_text(earlier.made)}, model {earlier.bundle}")
    box.press("Enter")

    def holds(seen: NDArray[np.int64]) -> bool:
        middle = seen.shape[1] // 2
        return _is_second(seen[:, : middle - 8]) and _is_first(seen[:, middle + 8 :])

    _wait_for(page, holds, layers=SWIPED)
    page.screenshot(path=tmp_path / "versions.png")
    seam = page.get_by_role("slider", name="Swipe")
    seam.press("PageUp")
    expect(seam).to_have_attribute("aria-valuetext", "60 % this version")
    page.get_by_text("Side by side", exact=True).click()
    _wait_for(page, _is_second, layers=3)  # this version alone on the left
    page.wait_for_function(SAME, timeout=DRAWN_MS)
    _wait_for(page, lambda _: _is_first(_second_viewer(page)), layers=3)
    page.screenshot(path=tmp_path / "versions_side.png")
    page.close()
    assert errors == []
