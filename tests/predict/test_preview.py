from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cytoseg.classes import ClassList
from cytoseg.drawing.overlay import RAMP
from cytoseg.geometry import Size
from cytoseg.predict.preview import draw_preview
from cytoseg.slides.pyramid import write_pyramid
from cytoseg.slides.slide import Slide
from cytoseg.slides.tiling import TileGrid

Draw = Callable[..., NDArray[np.uint8]]


@pytest.fixture
def draw(tmp_path: Path, make_slide: Callable[..., Slide], two_classes: ClassList) -> Draw:
    def run(ids: Any, nats: Any, classes: ClassList = two_classes) -> NDArray[np.uint8]:
        maps = {"class_map": np.array(ids, np.uint8), "uncertainty": np.array(nats, np.float32)}
        height, width = maps["class_map"].shape
        paths = {name: tmp_path / f"{name}.ome.tif" for name in maps}
        for name, path in paths.items():
            write_pyramid(path, [maps[name]], size=Size(width, height), mpp=None, categorical=name == "class_map")
        grid = TileGrid(Size(width, height), tile_px=8, overlap_px=0)
        return np.array(draw_preview(make_slide(np.full((height, width), 200)), grid, **paths, classes=classes))

    return run


def test_a_small_slide_is_enlarged_to_whole_pixels(draw: Draw) -> None:
    """A slide of 8x16 makes three panels of 240x480, from (12, 36) on and 252 apart."""
    ids, nats = np.zeros((16, 8)), np.zeros((16, 8))
    ids[:, 4:], nats[:, 4:] = 1, 0.5
    sheet = draw(ids, nats)
    assert sheet.shape[1] == 3 * 252 + 12
    left, right, row = 12 + 60, 12 + 180, 36 + 240
    np.testing.assert_array_equal(sheet[row, [left, right]], [[200] * 3] * 2)
    np.testing.assert_array_equal(sheet[row, 252 + left], [200] * 3)  # the fill class is left clear
    assert sheet[row, 252 + right, 2] > sheet[row, 252 + right, 0] + 40  # the cell is veiled in its blue
    np.testing.assert_array_equal(sheet[row, [504 + left, 504 + right]], [RAMP[0], RAMP[-1]])
    assert (sheet[row, [11, 252, 263, 504, 515, 756]] == 255).all()  # the gaps beside each panel


def test_agreement_everywhere_is_dark(draw: Draw) -> None:
    sheet = draw(np.zeros((16, 8)), np.full((16, 8), 1e-4))
    assert sheet[276, 504 + 72].max() < 50


@pytest.mark.parametrize(("height", "width"), [(1200, 900), (500, 2400), (2400, 60), (3, 2000)])
def test_the_picture_fits_1600_pixels_and_its_panels_use_the_room(draw: Draw, height: int, width: int) -> None:
    sheet = draw(np.zeros((height, width)), np.zeros((height, width)))
    assert max(sheet.shape) <= 1600
    assert max(sheet.shape) > 1400


def test_a_wide_slide_makes_a_column(draw: Draw) -> None:
    sheet = draw(np.ones((500, 2400)), np.zeros((500, 2400)))
    assert sheet.shape[1] == 1600
    panels = [(sheet[:, 800] == colour).all(axis=1).sum() for colour in ([200] * 3, RAMP[0])]
    assert panels == [328, 328]  # 1576 pixels of 2400 wide, hence 328 of 500 high


def test_the_legend_breaks_lines_and_says_what_is_hatched(draw: Draw) -> None:
    names = tuple(f"a class with quite a long name {i}" for i in range(60))
    many = ClassList(names, tuple((i, 0, 255 - i) for i in range(60)))
    short = draw(np.zeros((16, 8)), np.zeros((16, 8)))
    hatched = draw(np.full((16, 8), 255), np.zeros((16, 8)))
    row, column = np.indices((480, 240))
    stripes = np.where((row + column) % 8 < 2, 90, 200)[..., None].repeat(3, axis=2)
    np.testing.assert_array_equal(hatched[36:516, 264:504], stripes)
    np.testing.assert_array_equal(short[36:516, 264:504], np.full((480, 240, 3), 200))
    swatches = [int((legend == 90).all(axis=2).sum()) for legend in (hatched[516:], short[516:])]
    assert swatches == [196, 0]  # a square of 14 px, of the entry that tells what is hatched
    sheet = draw(np.full((16, 8), 255), np.zeros((16, 8)), classes=many)
    assert sheet.shape[0] > short.shape[0] + 400
    assert max(sheet.shape) <= 1600
