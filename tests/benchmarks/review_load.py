"""Load times of the review app with 200 runs and 5,000 test crops, and its memory with many visitors.

    python -m tests.benchmarks.review_load [--minutes 10] [--browsers 5]

Generates the runs, serves them as ``cytoseg review`` does and opens each page in a headless Chromium: by its address
right after the server has started, with an empty browser cache; by its address again; and from the side bar. Then
several browsers use all pages at once for some minutes: they page through the gallery, step through crops, zoom into
the slide, and choose another run for comparison.
"""

import argparse
import asyncio
import os
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from playwright.async_api import Browser, BrowserContext, Page
from playwright.async_api import Error as BrowserError

from tests.benchmarks.machine import Table, describe, memory_mb, shared_note, write_results
from tests.benchmarks.review_pages import APP, BARE, SHEETS, Sheet, chromium, follow, served, settle, visit, visitor
from tests.benchmarks.review_runs import make_runs

RUNS, CROPS, TURNS, SAMPLE_S = 200, 5000, 3, 5.0
WAYS = ("first visit", "second visit", "by the side bar")
SIZE = {"width": 1280, "height": 1000}
Times = dict[tuple[str, str], list[tuple[float, float]]]
"""For each page and way of opening it: seconds until it is ready, and CPU seconds of the server."""


@dataclass
class Load:
    """Measurements of all browsers.

    Attributes:
        begin: Start, in seconds of the monotonic clock.
        opened: For each page, how long it took in seconds, and when it was ready in seconds after the start.
        memory: Seconds after the start, pages opened until then, and RSS of the server in MB.
        wrong: Number of errors by message.
    """

    begin: float
    opened: list[tuple[float, float]] = field(default_factory=list)
    memory: list[tuple[float, int, float]] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.begin


async def time_pages(runs: Path, run: Path) -> Times:
    """Open every page in each way, with a new server and browser each turn."""
    times: Times = {(sheet.link, way): [] for sheet in (*SHEETS, BARE) for way in WAYS}
    bare = runs.parent / "bare.py"
    bare.write_text("import streamlit as st\n\nst.title('Bare')\n")
    for _ in range(TURNS):
        for app, sheets in ((bare, (BARE,)), (APP, SHEETS)):
            with served(runs, run, app) as (address, process):
                async with chromium() as browser:
                    for sheet in sheets:
                        await _time_page(browser, (address, process), sheet, times)
    return times


async def _time_page(browser: Browser, server: tuple[str, int], sheet: Sheet, times: Times) -> None:
    address, process = server
    context = await visitor(browser, address, viewport=SIZE)
    page = await context.new_page()

    async def timed(way: str, opening: Awaitable[float]) -> None:
        before = _worked_s(process)
        seconds = await opening
        times[sheet.link, way].append((seconds, _worked_s(process) - before))

    for way in WAYS[:2]:
        await timed(way, visit(page, address, sheet))
    if sheet is not BARE:
        await follow(page, SHEETS[1] if sheet is SHEETS[0] else SHEETS[0])
        await timed(WAYS[2], follow(page, sheet))
    await context.close()


def _worked_s(process: int) -> float:
    """Return the CPU seconds of a process, which other load on the machine hardly changes."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def put_load(runs: Path, run: Path, *, minutes: float, browsers: int) -> Load:
    """Let several browsers use all pages at once."""
    with served(runs, run) as (address, process):
        async with chromium() as browser:
            load = Load(time.monotonic())
            sampling = asyncio.create_task(_sample(load, process))
            walks = [_walk(browser, address, load, 60 * minutes, number) for number in range(browsers)]
            await asyncio.gather(*walks)
            sampling.cancel()
            load.memory.append((load.seconds(), len(load.opened), memory_mb("VmRSS", process)))
    return load


async def _sample(load: Load, process: int) -> None:
    while True:
        load.memory.append((load.seconds(), len(load.opened), memory_mb("VmRSS", process)))
        await asyncio.sleep(SAMPLE_S)


async def _walk(browser: Browser, address: str, load: Load, most_s: float, number: int) -> None:
    """Visit all pages in random order; every fifth round begins as a new visitor."""
    random, turn = np.random.default_rng(number), 0
    while load.seconds() < most_s:
        context = await visitor(browser, address, viewport=SIZE)
        page = await _watched(context, load)
        for _ in range(5):
            for place in random.permutation(len(SHEETS)).tolist():
                if load.seconds() < most_s:
                    turn += 1
                    await _look(page, address, SHEETS[place], load, turn)
        await context.close()


async def _watched(context: BrowserContext, load: Load) -> Page:
    page = await context.new_page()
    page.on("pageerror", lambda error: load.wrong.update([f"script error: {str(error)[:80]}"]))
    page.on("console", lambda said: load.wrong.update([f"console: {_kind(said.text)}"] * (said.type == "error")))
    page.on("response", lambda got: load.wrong.update([f"{got.status}: {_kind(got.url)}"] * (got.status >= 400)))
    return page


def _kind(text: str) -> str:
    """Remove the parts in which similar addresses differ, so that they can be counted."""
    return re.sub(r"http://[^/]+/(\w+/(?=_stcore))?|[0-9a-f]{16,}", "", text)[:90]


async def _look(page: Page, address: str, sheet: Sheet, load: Load, turn: int) -> None:
    try:
        fresh = page.url == "about:blank" or turn % 9 == 0
        seconds = await visit(page, address, sheet) if fresh else await follow(page, sheet)
        load.opened.append((seconds, load.seconds()))
        await _use(page, sheet, turn)
    except BrowserError as error:
        load.wrong.update([f"{sheet.link}: {str(error).splitlines()[0][:80]}"])
    for box in ("stException", "stAlertContentError"):
        load.wrong.update([f"{sheet.link}: {box}"] * await page.get_by_test_id(box).count())


async def _use(page: Page, sheet: Sheet, turn: int) -> None:
    """Use the main function of a page."""
    main = page.get_by_test_id("stMain")
    if sheet.path in ("gallery", "queue"):
        # Forward to the last page; the next visit starts at the first again.
        for _ in range(3):
            await main.get_by_role("button", name="Next").first.click()
            await settle(page, sheet)
    elif sheet.path in ("crop", "correct"):
        for _ in range(3):
            await main.get_by_role("button", name="Next").click()
            await settle(page, sheet)
    elif sheet.path == "slides":
        for label, value in (("x", 37 * turn % 3000), ("y", 53 * turn % 3000), ("Width", 400)):
            await page.get_by_label(label, exact=True).fill(str(value))
        await page.get_by_role("button", name="Go", exact=True).click()
        await settle(page, sheet)
        await page.mouse.move(500, 600)
        await page.mouse.wheel(0, -600)
        await page.wait_for_timeout(500)
    elif sheet.path == "history":
        box = main.get_by_role("combobox").first
        await box.click()
        for _ in range(1 + turn % 7):
            await box.press("ArrowDown")
        await box.press("Enter")
        await settle(page, sheet)


def _times_tables(times: Times) -> list[Table]:
    note = f"{RUNS} runs, {CROPS} test crops with images; median and range of {TURNS} turns."
    titles = ("Seconds until a page can be read", "CPU seconds of the server")
    return [Table(title, note, ("page", *WAYS), _times_rows(times, part)) for part, title in enumerate(titles)]


def _times_rows(times: Times, part: int) -> list[list[str]]:
    rows = []
    for sheet in (*SHEETS, BARE):
        taken = [[both[part] for both in times[sheet.link, way]] for way in WAYS]
        texts = (f"{statistics.median(t):.2f} ({min(t):.2f}-{max(t):.2f})" if t else "-" for t in taken)
        rows.append([sheet.link, *texts])
    return rows


def _load_tables(load: Load, minutes: float, browsers: int) -> list[Table]:
    marks = [60.0 * minute for minute in range(int(minutes) + 1)]
    memory = []
    for mark in marks:
        at, pages, rss = min(load.memory, key=lambda sample: abs(sample[0] - mark))
        memory.append([f"{at / 60:.1f}", pages, f"{rss:.0f}"])
    taken = [seconds for seconds, _ in load.opened]
    middle, slow = np.percentile(taken, [50, 95])
    # Caches fill and then stay constant; a leak also grows in the second half.
    late = [sample for sample in load.memory if sample[0] > 30 * minutes]
    slope = float(np.polyfit([s[1] for s in late], [s[2] for s in late], 1)[0]) if len(late) > 2 else float("nan")
    note = (
        f"{browsers} browsers, {minutes:g} minutes, {len(taken)} pages, {len(taken) / minutes:.1f} per minute; a page "
        f"took {middle:.1f} s (95 %: {slow:.1f} s). Growth in the second half: {1000 * slope:.0f} kB per page."
    )
    wrong = [[what, count] for what, count in load.wrong.most_common()] or [["nothing", 0]]
    return [
        Table("Memory of the server", note, ("minute", "pages", "RSS (MB)"), memory),
        Table("Errors", "In pages, consoles and responses.", ("what", "times"), wrong),
    ]


def main() -> None:
    """Time the pages, run the load, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--browsers", type=int, default=5)
    given = parser.parse_args()
    machine = describe()
    with tempfile.TemporaryDirectory() as folder:
        run = make_runs(Path(folder), runs=RUNS, crops=CROPS)
        tables = _times_tables(asyncio.run(time_pages(run.parent, run)))
        print(tables[0].markdown(), tables[1].markdown(), sep="\n", flush=True)
        load = asyncio.run(put_load(run.parent, run, minutes=given.minutes, browsers=given.browsers))
        tables += _load_tables(load, given.minutes, given.browsers)
    print(write_results("review_load", "Load on the review", tables, machine=machine, notes=shared_note(machine)))


if __name__ == "__main__":
    main()
