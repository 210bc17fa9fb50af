"""Drawing on Annotate in a real browser: by pen, by finger and not by two; steps without limit."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, CDPSession, Locator, Page, expect

from cytoseg.classes import IGNORE
from cytoseg.labels.drawn_marks import drawn_of, read_marks
from cytoseg.recipe import dump_recipe, load_recipe
from tests.apps.sighted import CLASSES
from tests.apps.test_annotate import RECIPE
from tests.browser.conftest import APP, DRAWN_MS, free_port, let_in, serve, start_server

pytestmark = pytest.mark.browser

SIDE_PX, STROKES = 64, 60
CROPS = ("away", "finger", "palm", "pen", "pinch", "steps", "taps")
Spot = tuple[float, float]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a grey crop for each test, of which none is marked."""
    base = tmp_path_factory.mktemp("drawn")
    folder = base / "runs" / "drawn"
    (folder / "to_label").mkdir(parents=True)
    for crop in CROPS:
        path = folder / "to_label" / f"{crop}.png"
        Image.fromarray(np.full((SIDE_PX, SIDE_PX, 3), 200, np.uint8)).save(path)
        path.with_name(f"{crop}.crop.json").write_text(json.dumps({"slide": crop, "region": [0, 0, SIDE_PX, SIDE_PX]}))
    (base / "short.yaml").write_text(RECIPE.replace("name: sighted", "name: drawn"))
    (folder / "recipe.yaml").write_text(dump_recipe(load_recipe(str(base / "short.yaml"))))
    return folder


def _command(run: Path, port: int) -> list[str]:
    flags = ["--server.address", "127.0.0.1", "--server.port", str(port), "--server.headless", "true"]
    return [sys.executable, "-m", "streamlit", "run", str(APP), *flags, "--", "--runs", str(run.parent)]


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    """Serve the review over this run alone; its address without the last slash."""
    port = free_port()
    with serve(_command(run, port), port=port, folder=run.parents[1]) as found:
        yield found


@pytest.fixture
def opened(chromium: Browser, address: str) -> Iterator[Callable[[str], Page]]:
    """Open Annotate on a crop, on a screen that is touched."""
    context = let_in(chromium, address, has_touch=True)
    errors: list[str] = []

    def open_crop(crop: str) -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/annotate")
        _choose(page, crop)
        expect(_said(page)).to_have_text("Each stroke is saved.", timeout=DRAWN_MS)
        return page

    yield open_crop
    context.close()
    assert errors == []


def _choose(page: Page, crop: str) -> None:
    for role, name, text in (("textbox", "Your name", "Anna"), ("combobox", "Crop", crop)):
        box = page.get_by_role(role, name=name, exact=True)  # type: ignore[arg-type] # one of its words
        expect(box).to_be_visible(timeout=DRAWN_MS)
        box.fill(text)
        box.press("Enter")
    expect(page.locator(f".editor[data-token*='/{crop}/'][aria-busy=false]")).to_be_visible(timeout=DRAWN_MS)
    page.locator("h1").first.click()  # while a field has focus, keys are letters


def _said(page: Page) -> Locator:
    return page.locator("[data-part=said]")


def _at(page: Page, x: float, y: float) -> Spot:
    """Give the place on the screen of a place on the crop."""
    box = page.locator("[data-part=above]").bounding_box()
    assert box is not None
    return box["x"] + x * box["width"] / SIDE_PX, box["y"] + y * box["height"] / SIDE_PX


def _saved(page: Page, run: Path, crop: str) -> NDArray[np.uint8]:
    """Wait until all strokes are saved; gives the ids in the file."""
    expect(_said(page)).to_have_text("Saved.", timeout=DRAWN_MS)
    picture = run / "to_label" / f"{crop}.png"
    assert (drawn := drawn_of(picture)) is not None
    assert drawn.author == "Anna"
    return read_marks(picture, (SIDE_PX, SIDE_PX), CLASSES).ids


def _noted_kinds(page: Page) -> None:
    """Note the kind of each pointer that goes down on the crop."""
    page.locator("[data-part=above]").evaluate(
        "(above) => above.addEventListener('pointerdown', (event) => (window.kinds ??= []).push(event.pointerType))"
    )


def _pen(devtools: CDPSession, kind: str, at: Spot) -> None:
    pressed = {"buttons": 0 if kind == "mouseReleased" else 1, "button": "left", "clickCount": 1, "force": 0.6}
    devtools.send("Input.dispatchMouseEvent", {"type": kind, "x": at[0], "y": at[1], "pointerType": "pen", **pressed})


def _touch(devtools: CDPSession, kind: str, *spots: Spot) -> None:
    points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(spots)]
    devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def _is_line(ids: NDArray[np.uint8], class_id: int, row: int, left: int, right: int) -> bool:
    """Whether a stroke of the brush of 8 px from left to right is all that is marked."""
    rows, columns = np.nonzero(ids != IGNORE)
    around = (rows.min(), rows.max(), columns.min(), columns.max())
    expected = (row - 4, row + 3, left - 4, right + 3)
    near = all(abs(int(a) - b) <= 1 for a, b in zip(around, expected, strict=True))
    return near and set(ids[row - 3 : row + 3, left:right].ravel().tolist()) == {class_id}


def test_a_stroke_of_a_pen_is_saved(opened: Callable[[str], Page], run: Path) -> None:
    page = opened("pen")
    _noted_kinds(page)
    devtools = page.context.new_cdp_session(page)
    page.keyboard.press("2")
    _pen(devtools, "mousePressed", _at(page, 12, 20))
    for x in range(14, 41, 2):
        _pen(devtools, "mouseMoved", _at(page, x, 20))
    _pen(devtools, "mouseReleased", _at(page, 40, 20))
    assert _is_line(_saved(page, run, "pen"), 1, 20, 12, 40)
    assert page.evaluate("kinds") == ["pen"]


def test_a_stroke_of_a_finger_is_saved_and_does_not_scroll(opened: Callable[[str], Page], run: Path) -> None:
    page = opened("finger")
    _noted_kinds(page)
    devtools = page.context.new_cdp_session(page)
    page.keyboard.press("1")
    place = page.locator("[data-part=above]").bounding_box()
    _touch(devtools, "touchStart", _at(page, 20, 44))
    for x in range(22, 51, 2):
        _touch(devtools, "touchMove", _at(page, x, 44))
    _touch(devtools, "touchEnd")
    assert _is_line(_saved(page, run, "finger"), 0, 44, 20, 50)
    assert page.locator("[data-part=above]").bounding_box() == place
    assert page.evaluate("kinds") == ["touch"]


def test_two_fingers_draw_nothing(opened: Callable[[str], Page], run: Path) -> None:
    page = opened("pinch")
    devtools = page.context.new_cdp_session(page)
    for key in "brf":  # what a press begins, a drag fills, and a press has done at once
        page.keyboard.press(key)
        one, two = _at(page, 20, 20), _at(page, 40, 40)
        _touch(devtools, "touchStart", one)
        _touch(devtools, "touchMove", (one[0] + 3, one[1] + 3))
        _touch(devtools, "touchStart", one, two)
        for far in range(5, 40, 5):
            _touch(devtools, "touchMove", (one[0] - far, one[1] - far), (two[0] + far, two[1] + far))
        _touch(devtools, "touchEnd")
    page.wait_for_timeout(500)
    assert not (run / "to_label" / "pinch.json").exists() or (_saved(page, run, "pinch") == IGNORE).all()
    expect(page.locator("[data-part=undo]")).to_be_disabled()
    page.keyboard.press("b")
    page.touchscreen.tap(*_at(page, 32, 32))  # a finger alone draws again
    expect(page.locator("[data-part=undo]")).to_be_enabled()
    assert 40 < (_saved(page, run, "pinch") != IGNORE).sum() < 60


def test_a_second_finger_takes_back_the_corner_of_the_first(opened: Callable[[str], Page], run: Path) -> None:
    page = opened("taps")
    devtools = page.context.new_cdp_session(page)
    page.keyboard.press("2")
    page.keyboard.press("p")
    for spot in ((10, 10), (50, 10)):
        page.touchscreen.tap(*_at(page, *spot))
    _touch(devtools, "touchStart", _at(page, 10, 50))
    _touch(devtools, "touchStart", _at(page, 10, 50), _at(page, 30, 30))
    _touch(devtools, "touchEnd")
    page.touchscreen.tap(*_at(page, 50, 50))
    page.keyboard.press("Enter")
    ids = _saved(page, run, "taps")
    assert (ids[15, 45], ids[45, 15]) == (1, IGNORE)  # the triangle of three taps, not a square
    assert abs(int((ids == 1).sum()) - 800) < 60


def test_a_hand_beside_the_pen_draws_nothing(opened: Callable[[str], Page], run: Path) -> None:
    page = opened("palm")
    _noted_kinds(page)
    above = page.locator("[data-part=above]")
    place = above.bounding_box()
    assert place is not None

    def send(kind: str, pointer: tuple[int, str], x: float, y: float) -> None:
        spot = _at(page, x, y)
        told = {"pointerId": pointer[0], "pointerType": pointer[1], "clientX": spot[0], "clientY": spot[1], "button": 0}
        above.dispatch_event(f"pointer{kind}", {**told, "bubbles": True, "buttons": 1})

    above.evaluate("(above) => { above.setPointerCapture = () => {}; }")  # it knows only what the system reports
    page.keyboard.press("2")
    palm, pen = (7, "touch"), (8, "pen")
    send("down", palm, 55, 55)
    send("move", palm, 58, 58)
    send("down", pen, 12, 20)
    send("move", palm, 50, 60)
    send("move", pen, 40, 20)
    send("up", palm, 50, 60)
    send("up", pen, 40, 20)
    assert _is_line(_saved(page, run, "palm"), 1, 20, 12, 40)
    assert page.evaluate("kinds") == ["touch", "pen"]


def test_sixty_strokes_are_undone_to_nothing_and_done_again(opened: Callable[[str], Page], run: Path) -> None:
    page = opened("steps")
    path = run / "to_label" / "steps.json"
    generator = np.random.default_rng(0)
    for number in range(STROKES):
        page.keyboard.press("12"[number % 2])
        x, y, right, down = generator.integers(4, SIDE_PX - 4, 4).tolist()
        page.mouse.move(*_at(page, x, y))
        page.mouse.down()
        page.mouse.move(*_at(page, right, down), steps=2)
        page.mouse.up()
    drawn = _saved(page, run, "steps")
    shapes = json.loads(path.read_text())["shapes"]
    assert {0, 1} <= set(drawn.ravel().tolist())
    for _ in range(STROKES):
        expect(page.locator("[data-part=undo]")).to_be_enabled()
        page.keyboard.press("Control+z")
    expect(page.locator("[data-part=undo]")).to_be_disabled()
    assert set(_saved(page, run, "steps").ravel().tolist()) == {IGNORE}
    assert [shape["label"] for shape in json.loads(path.read_text())["shapes"]] == ["__ignore__"]
    for _ in range(STROKES):
        page.keyboard.press("Control+y")
    expect(page.locator("[data-part=redo]")).to_be_disabled()
    assert _saved(page, run, "steps").tobytes() == drawn.tobytes()
    assert json.loads(path.read_text())["shapes"] == shapes


def test_strokes_drawn_while_the_server_is_away_are_saved_when_it_is_back(chromium: Browser, run: Path) -> None:
    port, folder = free_port(), run.parents[1]
    server = start_server(_command(run, port), port=port, folder=folder)
    address = f"http://127.0.0.1:{port}"
    context = let_in(chromium, address)
    page = context.new_page()
    page.goto(f"{address}/annotate")
    _choose(page, "away")
    page.keyboard.press("2")
    for row, kills in ((10, True), (30, False), (50, False)):
        page.mouse.move(*_at(page, 12, row))
        page.mouse.down()
        page.mouse.move(*_at(page, 40, row), steps=4)
        page.mouse.up()
        if kills:
            _saved(page, run, "away")
            server.kill()
            server.wait()
    server = start_server(_command(run, port), port=port, folder=folder)
    page.reload()
    _choose(page, "away")
    ids = _saved(page, run, "away")
    assert [set(ids[row - 3 : row + 3, 12:40].ravel().tolist()) for row in (10, 30, 50)] == [{1}] * 3
    context.close()
    server.kill()
    server.wait()
