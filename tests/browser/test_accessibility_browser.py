"""Every page by axe-core in both themes: nothing serious or critical; nothing wider than the screen at 200 %."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from cytoseg.classes import IGNORE
from cytoseg.labels.readings import save_reading
from cytoseg.recipe import dump_recipe, load_recipe
from tests.apps.sighted import CLASSES, make_run
from tests.apps.test_annotate import RECIPE
from tests.browser.conftest import APP, free_port, open_page, serve
from tests.browser.queued import NAME as QUEUED
from tests.browser.queued import add_queued_run
from tests.browser.test_review_browser import DRAWN_MS, OVERHANG

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
    """Make base/runs/shared with one crop that two people have marked differently."""
    run = base / "runs" / "shared"
    path = run / "to_label" / "board_0_0.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.full((SIDE_PX, SIDE_PX, 3), 200, np.uint8)).save(path)
    path.with_name("board_0_0.crop.json").write_text(json.dumps({"slide": "board", "region": [0, 0, 96, 96]}))
    (base / "shared.yaml").write_text(RECIPE.replace("name: sighted", "name: shared"))
    (run / "recipe.yaml").write_text(dump_recipe(load_recipe(str(base / "shared.yaml"))))
    for person, right in (("Anna", 40), ("Bo", 60)):
        ids = np.full((SIDE_PX, SIDE_PX), IGNORE, np.uint8)
        ids[10:80, 10:80], ids[20:70, 20:right] = 0, 1
        save_reading(path, person, "2026-01-01", label_map=ids, classes=CLASSES, known=None)


@pytest.fixture(scope="module")
def page(chromium: Browser, served_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser window on the review of four small runs."""
    base, port = tmp_path_factory.mktemp("seen"), free_port()
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


def _rested(page: Page) -> None:
    page.wait_for_timeout(300)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'",
        timeout=DRAWN_MS,
    )


def _open(page: Page, path: str) -> None:
    address = "/".join(page.url.split("/")[:3])
    page.goto(f"{address}/{path}", wait_until="domcontentloaded")
    box = page.get_by_role("combobox", name="Run", exact=True)
    expect(box).to_be_visible(timeout=DRAWN_MS)
    box.fill(RUNS[path])
    box.press("Enter")
    expect(box).to_have_value(RUNS[path], timeout=DRAWN_MS)
    _rested(page)
    name = page.get_by_role("textbox", name="Your name")
    if name.count():
        name.fill("Cem")
        name.press("Enter")
        _rested(page)


def _findings(page: Page) -> list[str]:
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['id']}: {node['html'][:120]} {node['failureSummary'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("path", RUNS)
def test_axe_finds_nothing_serious_in_either_theme_and_200_percent_fits(page: Page, path: str) -> None:
    _open(page, path)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type] # one of its words
        page.wait_for_timeout(300)
        assert _findings(page) == [], scheme
    page.set_viewport_size({"width": 640, "height": 500})  # 1280 px at 200 %
    page.wait_for_timeout(300)
    assert page.evaluate(OVERHANG) <= 0
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.emulate_media(color_scheme="light")
