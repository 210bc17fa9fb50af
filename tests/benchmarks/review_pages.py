"""The review app in a headless Chromium: serving it, opening pages, waiting for them."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from cytoseg.workflows.review_links import TOKEN

ROOT = Path(__file__).parents[2]
APP = ROOT / "apps" / "review" / "serve.py"
WAIT_MS = 120_000
SECRET = "known-to-the-benchmark"
IMAGE = "[data-testid=stMain] [data-testid=stImage] img"


@dataclass(frozen=True)
class Sheet:
    """A page: its address, its link in the side bar, its title, and which elements, and how many, make it ready."""

    path: str
    link: str
    title: str
    content: str
    count: int


SHEETS = (
    Sheet("", "Runs", "Runs", "[data-testid=stDataFrame] canvas", 2),
    Sheet("iou", "Per-class IoU", "Per-class IoU", ".js-plotly-plot .main-svg", 1),
    Sheet("confusion", "Confusion matrix", "Confusion matrix", ".js-plotly-plot .main-svg", 1),
    Sheet("history", "What changed", "What changed", ".js-plotly-plot .main-svg", 1),
    Sheet("gallery", "Gallery", "Test crops", IMAGE, 24),
    Sheet("crop", "Crop view", "Crop view", IMAGE, 5),
    Sheet("slides", "Slides", "Slides", ".sight .canvas canvas", 1),
    Sheet("correct", "Correct", "Correct", "[data-part=above]", 1),
    Sheet("queue", "Annotate next", "Annotate next", IMAGE, 15),
)

READY = """([title, selector, count]) => {
  const app = document.querySelector("[data-testid=stApp]");
  const head = document.querySelector("[data-testid=stMain] h1");
  if (app?.dataset.testScriptState !== "notRunning" || !head?.innerText.includes(title)) return false;
  if (document.querySelector("[data-testid=stStatusWidget], [data-testid=stSkeleton]")) return false;
  const hosts = (root) => [...root.querySelectorAll("*")].filter((element) => element.shadowRoot);
  const within = (root) => [root, ...hosts(root).flatMap((element) => within(element.shadowRoot))];
  const found = within(document).flatMap((root) => [...root.querySelectorAll(selector)]);
  return found.length >= count && found.every((e) => e.tagName !== "IMG" || (e.complete && e.naturalWidth > 0));
}"""
"""Whether the script has ended, nothing is faded or missing, and all images have loaded."""


BARE = Sheet("", "(a title alone)", "Bare", "h1", 1)
"""An empty Streamlit page: the time of browser and Streamlit alone."""


@contextlib.contextmanager
def served(runs: Path, run: Path, app: Path = APP, *, threads: int = 1) -> Iterator[tuple[str, int]]:
    """Serve the app as ``cytoseg review`` does; yields its address without the last slash, and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ["--server.address", "127.0.0.1", "--server.port", str(port), "--server.headless", "true"]
    command = [sys.executable, "-m", "streamlit", "run", str(app), *flags, "--browser.gatherUsageStats", "false"]
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", TOKEN: SECRET}
    # An allocator that keeps freed memory would hide whether the app releases it.
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    with subprocess.Popen(
        [*command, "--", "--runs", str(runs), "--run", str(run), "--base", str(runs.parent)],
        cwd=app.parent,
        env=surroundings | own,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            _wait_for(f"http://127.0.0.1:{port}/_stcore/health", server)
            yield f"http://127.0.0.1:{port}", server.pid
        finally:
            server.terminate()


def _wait_for(health: str, server: subprocess.Popen[bytes], *, wait_s: float = 120) -> None:
    end = time.monotonic() + wait_s
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(health, timeout=2):
            return
        time.sleep(0.2)
    raise RuntimeError(f"Streamlit did not answer within {wait_s} s (exit status {server.poll()}).")


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The system's Chromium, headless."""
    async with async_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
        browser = await playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        await browser.close()


async def visitor(browser: Browser, address: str, **options: Any) -> BrowserContext:
    """Begin as a new visitor who has access to the app."""
    context = await browser.new_context(**options)
    name = f"cytoseg_review_{urlsplit(address).port}"
    await context.add_cookies([{"name": name, "value": SECRET, "url": address}])
    return context


async def is_there(page: Page, sheet: Sheet) -> None:
    """Wait until a page is ready: title, content and images are present and nothing is running."""
    await page.wait_for_function(READY, arg=[sheet.title, sheet.content, sheet.count], timeout=WAIT_MS)


async def visit(page: Page, address: str, sheet: Sheet) -> float:
    """Open a page by its address; return the seconds until it is ready."""
    begin = time.perf_counter()
    await page.goto(f"{address}/{sheet.path}", wait_until="commit")
    await is_there(page, sheet)
    return time.perf_counter() - begin


async def follow(page: Page, sheet: Sheet) -> float:
    """Open a page from the side bar; return the seconds until it is ready."""
    begin = time.perf_counter()
    await page.get_by_test_id("stSidebar").get_by_role("link", name=sheet.link, exact=True).click()
    await is_there(page, sheet)
    return time.perf_counter() - begin


async def settle(page: Page, sheet: Sheet) -> None:
    """Wait until the app has started and finished its reaction to a click."""
    await asyncio.sleep(0.15)
    await is_there(page, sheet)
