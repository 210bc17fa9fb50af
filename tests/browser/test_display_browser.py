"""Opacity, brightness and contrast in a real browser: the pixels of the canvas are those that were asked for."""

import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import APP, DRAWN_MS, free_port, open_page, serve

pytestmark = pytest.mark.browser

GREY, CELL, VEIL = 200, (0, 90, 160), (250, 20, 60)
WIDTH_PX, HEIGHT_PX = 80, 60
SCRIPT = f"""\
import sys
sys.path.insert(0, {str(APP.parent)!r})
import editor
import numpy as np
import streamlit as st
from cytoseg.classes import ClassList
st.set_page_config(layout="wide")
size = {(HEIGHT_PX, WIDTH_PX)}
ids, veil = np.full(size, 255, np.uint8), np.zeros((*size, 4), np.uint8)
ids[20:40], veil[:, 40:] = 0, (*{VEIL}, 255)
editor.draw(np.full((*size, 3), {GREY}, np.uint8), ids, ClassList(("cell", "nucleus"), ({CELL}, (160, 90, 0)), "cell"),
    token="made", draft="made", may_save=False, saved_stroke=0,
    layers=[editor.Layer("classes", "Class map", veil), editor.Layer("doubt", "Uncertainty", np.zeros_like(veil))])
"""
"""A page of nothing but the editor: a grey crop, a mark from row 20 to 39, and a class map on its right half."""
PIXEL = f"""(canvas, [x, y]) => {{
  const factor = canvas.width / {WIDTH_PX};
  return [...canvas.getContext("2d").getImageData(Math.round(x * factor), Math.round(y * factor), 1, 1).data];
}}"""
BARE, MARKED, MAPPED, BOTH = (10, 10), (10, 30), (60, 10), (60, 30)


@pytest.fixture(scope="module")
def page(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder, port = tmp_path_factory.mktemp("display"), free_port()
    (folder / "page.py").write_text(SCRIPT)
    flags = ["--server.address", "127.0.0.1", "--server.port", str(port), "--server.headless", "true"]
    command = [sys.executable, "-m", "streamlit", "run", str(folder / "page.py"), *flags]
    with serve(command, port=port, folder=folder) as address:
        opened = open_page(chromium, address)
        opened.set_default_timeout(DRAWN_MS)
        opened.goto(address)
        expect(opened.locator(".editor[data-token=made][aria-busy=false][data-drawnclasses]")).to_be_visible()
        yield opened
        opened.context.close()


def _set(page: Page, **percents: int) -> None:
    for part, percent in percents.items():
        page.locator(f"[data-part={part}]").fill(str(percent))


def _seen(page: Page, spot: tuple[int, int]) -> list[int]:
    found: list[int] = page.locator("[data-part=canvas]").evaluate(PIXEL, list(spot))
    assert found.pop() == 255
    return found


def _over(colour: tuple[int, ...], below: tuple[float, ...], percent: int) -> list[float]:
    return [(percent * a + (100 - percent) * b) / 100 for a, b in zip(colour, below, strict=True)]


@pytest.mark.parametrize(("opacity", "veil"), [(45, 45), (100, 0), (0, 100), (80, 20)])
def test_marks_and_results_are_as_opaque_as_they_are_set(page: Page, opacity: int, veil: int) -> None:
    _set(page, opacity=opacity, veil=veil, brightness=100, contrast=100)
    grey = (GREY,) * 3
    assert _seen(page, BARE) == [GREY] * 3
    assert _seen(page, MARKED) == pytest.approx(_over(CELL, grey, opacity), abs=1.5)
    mapped = _over(VEIL, grey, veil)
    assert _seen(page, MAPPED) == pytest.approx(mapped, abs=1.5)
    assert _seen(page, BOTH) == pytest.approx(_over(CELL, tuple(mapped), opacity), abs=2)


@pytest.mark.parametrize(
    ("brightness", "contrast", "expected"),
    [(50, 100, 100), (100, 50, 163.75), (60, 200, 112.5), (100, 200, 255), (250, 100, 255)],
)
def test_brightness_and_contrast_change_the_picture_alone(
    page: Page, brightness: int, contrast: int, expected: float
) -> None:
    _set(page, opacity=100, veil=100, brightness=brightness, contrast=contrast)
    assert _seen(page, BARE) == pytest.approx([expected] * 3, abs=1.5)
    assert _seen(page, MARKED) == list(CELL)
    assert _seen(page, MAPPED) == list(VEIL)
    page.locator("[data-part=relight]").click()
    assert _seen(page, BARE) == [GREY] * 3


def test_a_result_is_switched_off(page: Page) -> None:
    _set(page, veil=50)
    for layer, shown in (("none", False), ("doubt", False), ("classes", True)):
        page.locator(f"[data-layer={layer}]").click()
        assert (_seen(page, MAPPED) != [GREY] * 3) == shown
