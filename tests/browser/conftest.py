"""The review on a synthetic run, served by Streamlit, and a headless Chromium."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from cytoseg.workflows.review_links import TOKEN
from tests.apps.sighted import make_run
from tests.browser.queued import add_queued_run

TESTS = Path(__file__).parents[1]
APP = TESTS.parent / "apps" / "review" / "serve.py"
SIDE_PX = 128
DRAWN_MS = 180_000
"""A page is drawn in a second; on two cores shared by four others its parts took over a minute, so wait well beyond."""
expect.set_options(timeout=60_000)  # a busy machine takes longer than the five seconds of Playwright
SECRET = "known-to-these-tests"
"""The token of every review that is served here."""


def _cells(generator: np.random.Generator, *, shift_px: int) -> tuple[Image.Image, Image.Image]:
    """A picture of three cells, and its label map drawn ``shift_px`` beside them."""
    picture, labels = Image.new("RGB", (SIDE_PX, SIDE_PX), (238, 232, 228)), Image.new("L", (SIDE_PX, SIDE_PX))
    drawn, marked = ImageDraw.Draw(picture), ImageDraw.Draw(labels)
    for tint in ((150, 190, 200), (226, 160, 170), (170, 170, 210)):
        x, y = generator.integers(25, SIDE_PX - 25, 2).tolist()
        for radius, colour, class_id in ((26, tint, 1), (6, (70, 50, 110), 2)):
            drawn.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
            left = x + shift_px
            marked.ellipse((left - radius, y - radius, left + radius, y + radius), class_id)
    return picture.filter(ImageFilter.GaussianBlur(1)), labels


def _draw(run: Path) -> None:
    crops = json.loads((run / "evaluation" / "evaluation.json").read_text())["crops"]
    for number, crop in enumerate(crops):
        folder = run / "evaluation" / crop["folder"]
        folder.mkdir(parents=True)
        picture, truth = _cells(np.random.default_rng(number), shift_px=0)
        _, prediction = _cells(np.random.default_rng(number), shift_px=5)
        wrong = np.asarray(truth) != np.asarray(prediction)
        disputed = Image.fromarray((wrong * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(3))
        parts = {"image": picture, "truth": truth, "prediction": prediction, "disagreement": disputed}
        for name, part in parts.items():
            part.save(folder / f"{name}.png")
    sheet = Image.new("RGB", (SIDE_PX * 4, SIDE_PX * 2))
    for number in range(8):
        picture, _ = _cells(np.random.default_rng(100 + number), shift_px=0)
        sheet.paste(picture, (number % 4 * SIDE_PX, number // 4 * SIDE_PX))
    slide = run / "predictions" / "smear_D"
    for folder, name in ((run / "ddpm", "samples"), (run / "labels", "contact_sheet"), (slide, "preview")):
        folder.mkdir(exist_ok=True)
        sheet.save(folder / f"{name}.png")


@pytest.fixture(scope="session")
def served_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made run with pictures of cells."""
    run = tmp_path_factory.mktemp("served") / "runs" / "quickstart"
    shutil.copytree(TESTS / "apps" / "made_run", run)
    _draw(run)
    return run


@pytest.fixture(scope="session")
def address(served_run: Path) -> Iterator[str]:
    """Serve the review over the made run; its address without the last slash."""
    runs = served_run.parent
    make_run(runs.parent, size_px=4096)
    add_queued_run(runs.parent, served_run)
    port = free_port()
    flags = ["--server.address", "127.0.0.1", "--server.port", str(port), "--server.headless", "true"]
    command = [sys.executable, "-m", "streamlit", "run", str(APP), *flags, "--browser.gatherUsageStats", "false"]
    arguments = ["--", "--runs", str(runs), "--run", str(served_run)]
    with serve([*command, *arguments], port=port, folder=runs.parent) as found:
        yield found


def free_port() -> int:
    """Find a port of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def serve(command: list[str], *, port: int, folder: Path) -> Iterator[str]:
    """Run a command that starts the review on a port, until the end of the block; gives its address."""
    with start_server(command, port=port, folder=folder) as server:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def start_server(command: list[str], *, port: int, folder: Path) -> subprocess.Popen[bytes]:
    """Run a command that starts the review on a port, and wait until it answers."""
    server = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1", TOKEN: SECRET},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _wait_for(f"http://127.0.0.1:{port}/_stcore/health", server)
    return server


def _wait_for(health: str, server: subprocess.Popen[bytes], *, wait_s: float = 120) -> None:
    end = time.monotonic() + wait_s
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(health, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"Streamlit did not answer within {wait_s} s (exit status {server.poll()}).")


def open_page(browser: Browser, address: str, *, width: int = 1280) -> Page:
    """Open an empty page in a browser of its own that has been let in to the review; to be closed with its context."""
    return let_in(browser, address, width=width).new_page()


def let_in(browser: Browser, address: str, *, width: int = 1280, has_touch: bool = False) -> BrowserContext:
    """Begin a browser of its own, without any page yet, that has been let in to the review; to be closed."""
    context = browser.new_context(viewport={"width": width, "height": 1000}, has_touch=has_touch)
    name = f"cytoseg_review_{urlsplit(address).port}"
    context.add_cookies([{"name": name, "value": SECRET, "url": address, "httpOnly": True, "sameSite": "Strict"}])
    return context


def rested(page: Page) -> None:
    """Wait until a page's script has ended, without an exception."""
    page.wait_for_timeout(300)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'",
        timeout=DRAWN_MS,
    )


@pytest.fixture(scope="module")
def visitor(chromium: Browser, address: str) -> Iterator[BrowserContext]:
    """One browser for the pages of a file that leave nothing in it: it keeps Streamlit's own files, megabytes."""
    context = let_in(chromium, address)
    yield context
    context.close()


def find_chromium() -> str:
    """Find the system's Chromium, the headless shell first: on a busy machine it takes half the time.

    Where there is none the test is skipped, unless CYTOSEG_BROWSER is "required": then it fails.
    """
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if path is not None:
        return path
    if os.environ.get("CYTOSEG_BROWSER") == "required":
        pytest.fail("CYTOSEG_BROWSER=required, but neither chromium-headless-shell nor chromium is installed.")
    pytest.skip("no chromium on this machine")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, headless."""
    path = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield browser
        browser.close()
