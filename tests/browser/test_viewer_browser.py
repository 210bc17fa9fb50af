"""The slide viewer in a real browser: zooming, layers that lie on the slide to the pixel, and what is refused."""

import base64
import http.client
import re
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

from tests.apps.sighted import CELL, CLASSES, GLASS
from tests.browser.conftest import DRAWN_MS, SECRET
from tests.browser.vast import add_vast_slide

pytestmark = pytest.mark.browser

BLUE = CLASSES.colours[1]
LAYERS = {"board": 3, "vast": 2}
"""How many layers lie on each slide: crops were marked on the first one only."""
LOADED = """(layers) => {
  const find = (root) => {
    for (const element of root.querySelectorAll("*")) {
      if (element.viewer) return element.viewer;
      const within = element.shadowRoot && find(element.shadowRoot);
      if (within) return within;
    }
  };
  const viewer = (window.sight = find(document));
  if (!viewer || viewer.world.getItemCount() !== 1 + layers) return false;
  const items = Array.from({ length: 1 + layers }, (_, number) => viewer.world.getItemAt(number));
  const [now, then] = [true, false].map((current) => JSON.stringify(viewer.viewport.getBounds(current)));
  return now === then && items.every((item) => !item.getOpacity() || item.getFullyLoaded());
}"""
"""Finds the viewer, and says whether it stands still and all to be seen of the slide and its layers has come."""

ADDRESSES = "[1, 2, 3].map((number) => sight.world.getItemAt(number)?.source.getTileUrl(0, 0, 0) || '')"
"""Of each layer, from below."""


@pytest.fixture
def page(visitor: BrowserContext) -> Iterator[Page]:
    opened = visitor.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    opened.close()
    assert errors == []


def _open(page: Page, address: str, place: str = "", *, slide: str = "board") -> None:
    page.goto(f"{address}/slides?run=sighted&slide={slide}{place}")
    page.wait_for_function(LOADED, arg=LAYERS[slide], timeout=DRAWN_MS)
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0, timeout=DRAWN_MS)


def _middle(x: int, y: int) -> re.Pattern[str]:
    """Match the place at the middle of the view, which lies between two pixels: either of them is right."""
    return re.compile(rf"x ({x - 1}|{x}), y ({y - 1}|{y})\b")


def _settled(page: Page, *, slide: str = "board", layers: int | None = None) -> NDArray[np.int64]:
    """Wait for movements and tiles to end, and read what the viewer has drawn, (H, W, 3)."""
    page.wait_for_function(LOADED, arg=LAYERS[slide] if layers is None else layers, timeout=DRAWN_MS)
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    text = page.evaluate("window.sight.drawer.canvas.toDataURL('image/png')")
    with Image.open(BytesIO(base64.b64decode(text.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGB")).astype(np.int64)


def _share_like(seen: NDArray[np.int64], *colours: tuple[float, ...]) -> float:
    near = [np.abs(seen - np.array(colour)).max(axis=2) <= 12 for colour in colours]
    return float(np.any(near, axis=0).mean())


def _wait_for(page: Page, holds: Callable[[NDArray[np.int64]], bool], *, layers: int | None = None) -> None:
    """Wait until what is drawn is so: what was clicked takes its way through the server."""
    deadline = time.monotonic() + DRAWN_MS / 1000
    while not holds(_settled(page, layers=layers)):
        assert time.monotonic() < deadline, "the viewer never showed it"


def _half(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[float, ...]:
    return tuple((a + b) / 2 for a, b in zip(one, other, strict=True))


def test_the_whole_slide_fits_and_can_be_zoomed_to_its_pixels(page: Page, address: str, tmp_path: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    _open(page, address)
    for width in (1280, 1920):
        page.set_viewport_size({"width": width, "height": 1000})
        _settled(page)
        page.screenshot(path=tmp_path / f"viewer_{width}.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not any("/slide/board/4/" in path for path in asked)
    expect(page.locator(".sight .length")).to_have_text("200 µm")
    page.get_by_role("button", name="Full resolution").click()
    seen = _settled(page)
    assert any("/slide/board/4/" in path for path in asked)
    expect(page.locator(".sight .zoom")).to_have_text("100 %")
    expect(page.locator(".sight .length")).to_have_text("50 µm")
    assert _share_like(seen, GLASS, _half(CELL, BLUE)) > 0.95
    page.get_by_role("button", name="Nearer").click()
    _settled(page)
    expect(page.locator(".sight .zoom")).to_have_text("160 %")


@pytest.fixture(scope="module")
def vast(address: str, served_run: Path) -> None:
    add_vast_slide(served_run.parents[1])


@pytest.mark.slow
@pytest.mark.usefixtures("vast")
@pytest.mark.parametrize("window_px", [1280, 1920])
def test_a_slide_of_30_000_px_is_zoomed_from_the_whole_to_its_pixels(
    page: Page, address: str, window_px: int, tmp_path: Path
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    page.set_viewport_size({"width": window_px, "height": 1000})
    _open(page, address, slide="vast")
    expect(page.locator(".sight .length")).to_have_text("2 mm")
    box = page.locator(".sight .canvas").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    finest = "/slide/vast/7/"
    while not any(finest in path for path in asked):
        assert len(asked) < 2000
        page.mouse.wheel(0, -400)
        _settled(page, slide="vast")
    expect(page.locator(".sight .place")).to_contain_text("x 150")  # still at the middle, within 50 px
    page.screenshot(path=tmp_path / f"vast_{window_px}.png")
    page.get_by_role("button", name="Full resolution").click()
    assert _share_like(_settled(page, slide="vast"), GLASS, _half(CELL, BLUE)) > 0.95
    # Nobody waits for what is not on the screen: some tiles of each of eight steps, of 13,924 at the finest alone.
    assert sum("/slide/vast/" in path for path in asked) < 400
    _open(page, address, "&x=29600&y=29700&width=400", slide="vast")
    assert _share_like(_settled(page, slide="vast"), CELL, _half(GLASS, BLUE)) < 0.0005


@pytest.mark.parametrize("width", [100, 450, 1777])
def test_the_class_map_lies_on_the_slide_to_the_pixel(page: Page, address: str, width: int) -> None:
    _open(page, address, f"&x=1999&y=2003&width={width}")
    seen = _settled(page)
    # A layer that is moved by a pixel would show cells without blue, and blue on glass, along every square's edge.
    edges = _share_like(seen, CELL, _half(GLASS, BLUE))
    assert edges < 0.0005
    # Only the squares' edges are blurred, by JPEG and by means.
    assert _share_like(seen, GLASS, _half(CELL, BLUE)) > 0.9


@pytest.mark.parametrize("width", [50, 70])
def test_no_seam_shows_where_four_tiles_meet(page: Page, address: str, width: int) -> None:
    # The corner of tiles at (2560, 2816) lies within a square that is all cell.
    _open(page, address, f"&x={2560 - width // 2}&y={2806}&width={width}")
    assert _share_like(_settled(page), _half(CELL, BLUE)) > 0.995


def test_layers_and_classes_can_be_switched(page: Page, address: str) -> None:
    _open(page, address, "&x=0&y=0&width=400")
    assert _share_like(_settled(page), _half(CELL, BLUE)) > 0.35
    page.locator("label").filter(has_text="cell").click()
    _wait_for(page, lambda seen: _share_like(seen, CELL) > 0.35)
    page.locator("label").filter(has_text="cell").click()
    _wait_for(page, lambda seen: _share_like(seen, _half(CELL, BLUE)) > 0.35)
    page.get_by_text("Class map", exact=True).first.click()
    _wait_for(page, lambda seen: _share_like(seen, CELL) > 0.35)
    page.get_by_text("Ground truth", exact=True).click()
    # One square of 16 or so, which shows glass, was marked as cell.
    _wait_for(page, lambda seen: 0.05 < _share_like(seen, _half(GLASS, BLUE)) < 0.07)
    page.get_by_text("Uncertainty", exact=True).first.click()
    _wait_for(page, lambda seen: _share_like(seen, GLASS) < 0.01)


def test_a_layer_is_as_opaque_as_it_is_set(page: Page, address: str) -> None:
    _open(page, address, "&x=0&y=0&width=400")
    handle = page.get_by_role("slider", name="Opacity of Class map")
    for key, percent in (("End", 100), ("Home", 0), ("ArrowRight", 5), ("PageUp", 15)):
        handle.press(key)
        assert int(handle.input_value()) == percent
        share = percent / 100
        mixed = tuple(share * blue + (1 - share) * cell for blue, cell in zip(BLUE, CELL, strict=True))
        _wait_for(page, lambda seen, mixed=mixed: _share_like(seen, mixed) > 0.35)  # type: ignore[misc] # bound now


def test_layers_keep_their_order_when_one_is_remade(page: Page, address: str) -> None:
    _open(page, address, "&x=0&y=0&width=400")
    before = page.evaluate(ADDRESSES)
    assert sum("classes=1" in address for address in before) == 2
    page.locator("label").filter(has_text="cell").click()
    page.wait_for_function(f"{ADDRESSES}.every((address) => !address.includes('classes=1'))", timeout=DRAWN_MS)
    page.wait_for_function(LOADED, arg=LAYERS["board"], timeout=DRAWN_MS)
    assert page.evaluate(ADDRESSES) == [address.replace("classes=1", "classes=") for address in before]


def test_a_click_gives_the_place_and_its_link(page: Page, address: str) -> None:
    _open(page, address, "&x=1000&y=1000&width=200")
    _settled(page)
    box = page.locator(".sight .canvas").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator(".sight .place")).to_contain_text(_middle(1100, 1100))
    expect(page.locator(".sight .place")).to_contain_text(re.compile(r"\((549\.5|550\.0), (549\.5|550\.0) µm\)"))
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.get_by_text(re.compile(f"Clicked at {_middle(1100, 1100).pattern}"))).to_be_visible(timeout=DRAWN_MS)
    expect(page.get_by_text("/slides?run=sighted&slide=board")).to_be_visible()


def test_a_crop_is_drawn_on_the_slide(page: Page, address: str, tmp_path: Path) -> None:
    _open(page, address, "&x=1000&y=1000&width=200")
    _settled(page)
    page.get_by_role("button", name="Draw a crop").click()
    box = page.locator(".sight .canvas").first.bounding_box()
    assert box is not None
    scale = min(box["width"], box["height"]) / 200
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle[0] - 30 * scale, middle[1] - 20 * scale)
    page.mouse.down()
    page.mouse.move(middle[0] + 30 * scale, middle[1] + 20 * scale, steps=6)
    page.screenshot(path=tmp_path / "drawn.png")
    page.mouse.up()
    offered = page.get_by_role("button", name="Annotate the drawn crop")
    expect(offered).to_contain_text(re.compile(r"\(6[0-2] x 4[0-2]\)"), timeout=DRAWN_MS)  # edges lie on whole pixels
    expect(page.get_by_role("button", name="Draw a crop")).to_have_attribute("aria-pressed", "false")
    page.mouse.move(*middle)
    expect(page.locator(".sight .place")).to_contain_text(_middle(1100, 1100))  # the slide has not moved


def test_a_form_leads_to_a_place(page: Page, address: str) -> None:
    _open(page, address)
    for label, value in (("x", "3000"), ("y", "1000"), ("Width", "300")):
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Go", exact=True).click()
    middle = "sight.world.getItemAt(0).viewportToImageCoordinates(sight.viewport.getCenter())"
    page.wait_for_function(f"Math.abs({middle}.x - 3150) < 1", timeout=DRAWN_MS)
    page.locator(".sight .canvas").first.hover()
    expect(page.locator(".sight .place")).to_contain_text(_middle(3150, 1150))


def test_a_slide_is_found_again_as_it_was_left(page: Page, address: str) -> None:
    _open(page, address, "&x=3000&y=1000&width=300")
    page.get_by_role("button", name="Nearer").click()
    page.wait_for_function(LOADED, arg=LAYERS["board"], timeout=DRAWN_MS)
    seen = "JSON.stringify(sight.viewport.getBounds())"
    left = page.evaluate(seen)
    for name in ("Jobs", "Slides"):
        page.get_by_test_id("stSidebar").get_by_role("link", name=name, exact=True).click()
        expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible(timeout=DRAWN_MS)
    page.wait_for_function(LOADED, arg=LAYERS["board"], timeout=DRAWN_MS)
    page.wait_for_function(f"(left) => {seen} === left", arg=left, timeout=DRAWN_MS)


@pytest.mark.parametrize(
    "path",
    [
        "/tiles/sighted/slide/../../../../etc/passwd",
        "/tiles/sighted/slide/..%2f..%2fslides%2fboard/0/0_0.jpg",
        "/tiles/sighted/slide/%2fetc%2fpasswd/0/0_0.jpg",
        "/tiles/other/slide/board/0/0_0.jpg",
        "/tiles/sighted/slide/other/0/0_0.jpg",
        "/tiles/sighted/slide/board/9/0_0.jpg",
        "/tiles/",
    ],
)
def test_the_whole_server_refuses_what_is_no_tile(address: str, path: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    try:
        connection.request("GET", path, headers={"Cookie": f"cytoseg_review_{urlsplit(address).port}={SECRET}"})
        answer = connection.getresponse()
        body = answer.read().decode()
        assert answer.status in (400, 404)
        assert body in ("There is no such tile.", "This tile cannot be shown.", "Bad Request", "Not Found")
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/", "/_stcore/stream", "/tiles/sighted/slide/board/0/0_0.jpg"])
@pytest.mark.parametrize("host", ["evil.example", "localhost", "[::1]"])
def test_the_whole_server_answers_to_its_own_name_only(address: str, path: str, host: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    try:
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", f"{host}:{urlsplit(address).port}")
        connection.endheaders()
        answer = connection.getresponse()
        said = (answer.status, answer.read())
        assert (said == (400, b"Invalid host header")) == (host == "evil.example")
    finally:
        connection.close()
