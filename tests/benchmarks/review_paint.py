"""First paint of every page of the app, and from a stroke to its result, as a headless Chromium sees them.

    python -m tests.benchmarks.review_paint [--threads 2]

Makes runs with labels and predictions and opens each page by its address: for the first time with nothing in the
browser's cache, each turn with a server that has just begun, and again by the same browser. Then draws strokes on the
page Annotate with 5 and 30 labelled crops, on the features of a new project.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.async_api import Browser, Page

from cytoseg.classes import IGNORE
from cytoseg.labels.readings import save_reading
from tests.apps.sighted import CLASSES, add_objects
from tests.benchmarks.live import WAYS, run_with_crops
from tests.benchmarks.machine import Table, describe, shared_note, write_results
from tests.benchmarks.review_pages import READY, SHEETS, WAIT_MS, Sheet, chromium, served, visitor
from tests.benchmarks.review_runs import SLIDE_PX, make_runs

RUNS, CROPS, TURNS, STROKES, SIDE_PX = 20, 200, 2, 6, 256
WAY = next(iter(WAYS))
"""The features of a new project."""
SIZE = {"width": 1280, "height": 1000}
MORE = (
    Sheet("new_project", "New project", "New project", "[data-testid=stDataFrame] canvas", 1),
    Sheet("anomalies", "Anomalies", "Anomalies", "[data-testid=stAlert]", 1),
    Sheet("annotate", "Annotate", "Annotate", ".editor[aria-busy=false] [data-part=above]", 1),
    Sheet("predict", "Predict", "Predict", "[data-testid=stLinkButton]", 3),
    Sheet("jobs", "Jobs", "Jobs", "[data-testid=stMain] button", 8),
    Sheet("two_people", "Two people", "Two people", "[data-testid=stMain] [data-testid=stImage] img", 2),
)
"""The pages that ``SHEETS`` lacks."""
PAINTED = """() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime"""
READ = f"(wanted) => ({READY})(wanted) && performance.now()"
WATCH = """(root) => {
  const above = root.querySelector("[data-part=above]");
  window.drawn = {};
  above.addEventListener("pointerup", () => (window.drawn = { lifted: performance.now() }), true);
  new MutationObserver((changes) => {
    for (const { attributeName } of changes) window.drawn[attributeName] ??= performance.now();
  }).observe(root, { attributeFilter: ["data-drawnclasses", "data-drawndoubt"] });
}"""
"""Notes when a stroke ends, and when the results that follow it are drawn."""
SHOWN = """() => {
  const rests = document.querySelector("[data-testid=stApp]")?.dataset.testScriptState === "notRunning";
  const { lifted, "data-drawnclasses": map, "data-drawndoubt": doubt } = window.drawn;
  // A map that is the same as before is not drawn again.
  const moments = [map ?? doubt, doubt, performance.now()];
  return rests && doubt && moments.map((moment) => (moment - lifted) / 1000);
}"""


async def time_paint(runs: Path, run: Path) -> dict[tuple[str, int], list[tuple[float, float]]]:
    """Open every page twice in each turn; gives the seconds until its first paint and until it can be read."""
    times: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(TURNS):
        with served(runs, run) as (address, _process):
            async with chromium() as browser:
                for sheet in (*SHEETS, *MORE):
                    context = await visitor(browser, address, viewport=SIZE)
                    page = await context.new_page()
                    for visit in range(2):
                        times.setdefault((sheet.link, visit), []).append(await _painted(page, address, sheet))
                    await context.close()
    return times


async def _painted(page: Page, address: str, sheet: Sheet) -> tuple[float, float]:
    await page.goto(f"{address}/{sheet.path}", wait_until="commit")
    wanted = [sheet.title, sheet.content, sheet.count]
    read = await page.wait_for_function(READ, arg=wanted, timeout=WAIT_MS)
    painted = await page.evaluate(PAINTED)
    return painted / 1000, (await read.json_value()) / 1000


async def time_strokes(run: Path, threads: int) -> list[list[float]]:
    """Draw on the first crop of a run; gives for each stroke the seconds until class map, uncertainty and the rest."""
    with served(run.parent, run, threads=threads) as (address, _process):
        async with chromium() as browser:
            page = await _annotating(browser, address)
            return [await _stroke(page, number) for number in range(STROKES + 1)]


async def _annotating(browser: Browser, address: str) -> Page:
    context = await visitor(browser, address, viewport=SIZE)
    page = await context.new_page()
    page.set_default_timeout(WAIT_MS)
    await page.goto(f"{address}/annotate")
    name = page.get_by_role("textbox", name="Your name")
    await name.fill("Bo")
    await name.press("Enter")
    await page.locator(".editor[aria-busy=false][data-drawndoubt]").wait_for()
    await page.wait_for_timeout(2000)
    await page.locator("h1").first.click()  # while a field has focus, keys are letters
    await page.locator(".editor").evaluate(WATCH)
    return page


async def _stroke(page: Page, number: int) -> list[float]:
    await page.keyboard.press("b")
    await page.keyboard.press("123"[number % 3])
    box = await page.locator("[data-part=above]").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] * (20 + 24 * number) / SIDE_PX
    await page.mouse.move(box["x"] + 0.15 * box["width"], y)
    await page.mouse.down()
    await page.mouse.move(box["x"] + 0.8 * box["width"], y, steps=12)
    await page.mouse.up()
    shown = await page.wait_for_function(SHOWN, timeout=WAIT_MS)
    found: list[float] = await shown.json_value()
    return found


def make_work(run: Path) -> None:
    """Give the run of the viewer's tests objects, and a crop that two people have marked differently."""
    add_objects(run / "predictions" / "board", SLIDE_PX)
    path = run / "to_label" / "board_0_0.png"
    path.parent.mkdir()
    Image.fromarray(np.full((SIDE_PX, SIDE_PX, 3), 200, np.uint8)).save(path)
    sidecar = {"slide": "board", "region": [0, 0, SIDE_PX, SIDE_PX]}
    path.with_name(f"{path.stem}.crop.json").write_text(json.dumps(sidecar))
    for person, right in (("Anna", 40), ("Bo", 60)):
        ids = np.full((SIDE_PX, SIDE_PX), IGNORE, np.uint8)
        ids[10:80, 10:80], ids[20:70, 20:right] = 0, 1
        save_reading(path, person, "2026-01-01", label_map=ids, classes=CLASSES, known=None)


def _row(taken: Sequence[float]) -> str:
    return f"{statistics.median(taken):.2f} ({min(taken):.2f}-{max(taken):.2f})"


def _paint_table(times: dict[tuple[str, int], list[tuple[float, float]]]) -> Table:
    note = (
        f"Seconds since the address was opened, by the browser's own clock; median and range of {TURNS} turns. Target: "
        "first paint (first contentful paint) within 2 s. A page can be read when its script has ended and its main "
        "content is drawn: tables, charts, pictures, or the editor with its crop."
    )
    columns = ("page", "first paint", "can be read", "first paint, second visit", "can be read, second visit")
    links = dict.fromkeys(link for link, _ in times)
    rows = [
        [link, *(_row([both[part] for both in times[link, visit]]) for visit in range(2) for part in range(2))]
        for link in links
    ]
    return Table("Opening a page", note, columns, rows)


def _strokes_table(threads: int) -> Table:
    rows: list[list[Any]] = []
    for crops in (5, 30):
        with run_with_crops(*WAYS[WAY], crops=crops) as annotating:
            first, *later = asyncio.run(time_strokes(annotating.run, threads))
        columns = [[stroke[part] for stroke in later] for part in range(3)]
        rows.append([crops, round(first[0], 2), *map(_row, columns)])
    note = (
        f"{WAY}. Seconds in the browser from the end of a stroke until the map that MLPs refitted with it predict is "
        f"drawn; median and range of {STROKES} strokes after the first. All the rest is done when the stroke is "
        "imported and the least certain crop is offered. Targets: the map within 3 s with 5 labelled crops, all "
        "within 10 s with 30."
    )
    head = ("labelled crops", "first stroke", "class map", "uncertainty", "all the rest")
    return Table("From a stroke to its result", note, head, rows)


def main() -> None:
    """Measure both, and write results/review_paint.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    assert shutil.which("chromium-headless-shell") or shutil.which("chromium"), "no Chromium"
    machine = describe()
    with tempfile.TemporaryDirectory() as folder:
        run = make_runs(Path(folder), runs=RUNS, crops=CROPS)
        make_work(run)
        tables = [_paint_table(asyncio.run(time_paint(run.parent, run)))]
        print(tables[0].markdown(), flush=True)
    tables.append(_strokes_table(threads))
    title = "First paint and live strokes in the browser"
    print(write_results("review_paint", title, tables, machine=machine, notes=shared_note(machine)))


if __name__ == "__main__":
    main()
