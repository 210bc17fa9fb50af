"""The app over a folder of slides and nothing else, the page that works in it, and what a test does there."""

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page
from scipy import ndimage

from cytoseg.classes import IGNORE
from cytoseg.commands.review import streamlit_command
from cytoseg.geometry import Size
from cytoseg.jobs.job_database import JobPlace
from cytoseg.jobs.job_table import Job, jobs_of
from cytoseg.labels.drawn_marks import read_marks
from cytoseg.recipe import load_recipe
from cytoseg.shipped import shipped_review
from cytoseg.synthetic.generate import generate_slide
from tests.browser.conftest import DRAWN_MS, free_port, open_page, rested, start_server

CROP_PX, SLIDE_PX, SLIDES = 256, 384, 3
MAX_PX, MIN_PX = (60, 20, 8), 5
"""Half the length of a mark of each class, where there is room, and the least: a stroke, a square, half a square."""
AUTHOR = "Anna Øster"


@dataclass
class Bench:
    """The app over a folder with slides and nothing else, and the page that works in it."""

    browser: Browser
    home: Path
    port: int
    server: subprocess.Popen[bytes]
    page: Page = field(init=False)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open()

    def open(self, path: str = "") -> None:
        """Open the app in a new browser window that knows nothing of an earlier one."""
        address = f"http://127.0.0.1:{self.port}"
        self.page = open_page(self.browser, address, width=1440)
        self.page.set_default_timeout(DRAWN_MS)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{address}/{path}")

    @property
    def run(self) -> Path:
        return self.home / "runs" / "story"

    def jobs(self) -> list[Job]:
        """List the jobs of the run, latest first."""
        return jobs_of(JobPlace(self.run))

    def kill_and_start_again(self) -> None:
        """Kill the server without a word, start another, and load the page again."""
        self._restart()
        self.page.reload()

    def lose_everything(self, path: str) -> None:
        """Close the browser and kill the server without a word, and come back later in a new window."""
        self.page.context.close()
        self._restart()
        self.open(path)

    def _restart(self) -> None:
        self.server.kill()
        self.server.wait()
        self.server = served(self.home, self.port)


def served(home: Path, port: int) -> subprocess.Popen[bytes]:
    recipe = load_recipe("quickstart", [f"review.port={port}"])
    return start_server(streamlit_command(recipe, [home / "smears"]), port=port, folder=shipped_review())


@pytest.fixture
def bench(chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.chdir(tmp_path)
    for number in range(SLIDES):
        generate_slide(tmp_path / "smears" / f"smear_{number}.ome.tif", size=Size(SLIDE_PX, SLIDE_PX), seed=number)
    port = free_port()
    found = Bench(chromium, tmp_path, port, served(tmp_path, port))
    yield found
    found.page.context.close()
    found.server.kill()
    found.server.wait()


def places(crop: str) -> list[tuple[int, int, int]]:
    """Give for each class the place in a crop with the most room for a mark, x, y and half its length."""
    slide, left, upper = crop.rsplit("_", 2)
    truth = tifffile.imread(Path("smears") / f"{slide}.labels.ome.tif")
    truth = truth[int(upper) :, int(left) :][:CROP_PX, :CROP_PX]
    found = []
    for class_id, most in enumerate(MAX_PX):
        room = ndimage.distance_transform_edt(np.pad(truth == class_id, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(room.argmax(), room.shape)
        found.append((int(x), int(y), int(np.clip(room.max() / 2**0.5, MIN_PX, most))))
    return found


def has_all_classes(crop: str) -> bool:
    """Whether there is something to mark of every class in a crop."""
    return all(min(x, y) >= half for x, y, half in places(crop))


def marked(picture: Path) -> NDArray[np.uint8]:
    return read_marks(picture, (CROP_PX, CROP_PX), load_recipe("story.yaml").class_list()).ids


def are_the_marks(ids: NDArray[np.uint8], places: list[tuple[int, int, int]]) -> None:
    """The brush of 8 px, the square and the triangle; nothing is said of the rest."""
    (x, y, half), square, corner = places
    assert set(ids[y - 3 : y + 3, x - half : x + half].ravel().tolist()) == {0}
    x, y, half = square
    assert abs(int((ids == 1).sum()) - 4 * half**2) <= 6 * half
    assert (ids[y - half + 2 : y + half - 2, x - half + 2 : x + half - 2] == 1).all()
    x, y, half = corner
    assert abs(int((ids == 2).sum()) - 2 * half**2) <= 5 * half
    assert ids[y - half + 2, x + half - 2] == 2
    assert ids[y + half - 2, x - half + 2] != 2
    assert (ids == IGNORE).mean() > 0.9


def until(happened: Callable[[], bool], wait_s: float = 150) -> None:
    end = time.monotonic() + wait_s
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.2)


def type_in(page: Page, label: str, text: str) -> None:
    box = page.get_by_role("textbox", name=label)
    box.fill(text)
    box.press("Enter")
    rested(page)


def at(page: Page, x: float, y: float) -> tuple[float, float]:
    """Give the place on the screen of a place on the crop."""
    box = page.locator("[data-part=above]").bounding_box()
    assert box is not None
    return box["x"] + x * box["width"] / CROP_PX, box["y"] + y * box["height"] / CROP_PX


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*at(page, *start))
    page.mouse.down()
    page.mouse.move(*at(page, *end), steps=7)
    page.mouse.up()


def shot(bench: Bench, name: str) -> None:
    """Take a picture; those of docs/workbench are made here."""
    bench.page.mouse.move(0, 0)
    bench.page.wait_for_timeout(300)  # a tooltip closes
    with Image.open(BytesIO(bench.page.screenshot())) as picture:
        picture.convert("RGB").save(bench.home / f"{name}.jpg", quality=72, subsampling=0, optimize=True)
