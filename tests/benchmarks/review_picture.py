"""A picture of the page Slides for the docs, of a predicted slide of a run.

    python -m tests.benchmarks.review_picture runs/quickstart made_0_07 docs/review.jpg

The pictures in docs/workbench are taken by tests/browser/test_workbench_browser.py, which leaves them in its folder:

    python -m pytest -m "slow or not slow" --basetemp=/tmp/story tests/browser/test_workbench_browser.py
"""

import asyncio
import sys
from io import BytesIO
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.async_api import expect

from tests.benchmarks.review_pages import SHEETS, WAIT_MS, chromium, is_there, served, visitor

SIZE = {"width": 1280, "height": 724}
PLACE = {"x": 100, "y": 150, "width": 750}
"""The part of the slide that is shown, in its pixels."""


async def _take(address: str, run: str, slide: str) -> bytes:
    async with chromium() as browser:
        page = await (await visitor(browser, address, viewport=SIZE)).new_page()
        await page.goto(f"{address}/slides?{urlencode({'run': run, 'slide': slide, **PLACE})}")
        await is_there(page, next(sheet for sheet in SHEETS if sheet.path == "slides"))
        await expect(page.locator(".outlines path").first).to_be_attached(timeout=WAIT_MS)
        await page.wait_for_timeout(3000)  # all tiles and outlines
        return await page.screenshot()


def main() -> None:
    run, slide, path = Path(sys.argv[1]).resolve(), sys.argv[2], Path(sys.argv[3])
    with served(run.parent, run) as (address, _):
        shot = asyncio.run(_take(address, run.name, slide))
    with Image.open(BytesIO(shot)) as picture:
        picture.convert("RGB").save(path, quality=85, optimize=True)


if __name__ == "__main__":
    main()
