from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.drawing.overlay import HATCH
from cytoseg.labels import contact_sheet
from cytoseg.labels.contact_sheet import draw_sheet
from cytoseg.labels.index import CropName, LabelledCrop, write_crop


def write(folder: Path, crop: str, classes: ClassList, *, width: int = 30, height: int = 20) -> LabelledCrop:
    picture, label_map = np.full((height, width, 3), 100, np.uint8), np.zeros((height, width), np.uint8)
    label_map[5:15, 5:15] = 2
    return write_crop(folder, CropName(crop, "s", "x.json"), picture=picture, label_map=label_map, classes=classes)


@pytest.mark.parametrize("count", [1, 3, 14])
def test_every_crop_is_on_the_sheet(tmp_path: Path, classes: ClassList, count: int) -> None:
    crops = [write(tmp_path, f"crop_{i}", classes) for i in range(count)]
    sheet = np.array(draw_sheet(crops, classes)).astype(int)
    # The veil inside each nucleus, a fifth to a half of the height of its tile: one connected block for each crop.
    red = np.all(sheet == [130, 70, 82], axis=2)
    starts = red & ~np.pad(red, ((1, 0), (0, 0)))[:-1] & ~np.pad(red, ((0, 0), (1, 0)))[:, :-1]
    assert np.count_nonzero(starts) == count


def test_a_long_name_does_not_run_into_the_next_crop(tmp_path: Path, classes: ClassList) -> None:
    crops = [write(tmp_path, name, classes) for name in ("a" * 100, "b")]
    sheet = np.array(draw_sheet(crops, classes))
    gap = sheet[-30:, 10 + 384 : 10 + 384 + 10]
    assert np.all(gap == 255)


def _crop(crop: str, slide: str, *, cell: int, ignored: int) -> LabelledCrop:
    pixels = {"background": 50, "cell": cell, "nucleus": 0}
    return LabelledCrop(Path("labels"), crop, slide, 10, 10, f"{crop}.json", "1", "2", pixels, ignored)


def test_the_legend_has_the_share_of_each_class_and_of_ignored_pixels(classes: ClassList) -> None:
    one, two = _crop("a", "s", cell=50, ignored=0), _crop("b", "s", cell=25, ignored=25)
    entries = contact_sheet._legend_entries([one, two], classes)
    assert entries == [
        ("2 crops of 1 slide", None),
        ("background (unmarked) 50.0 %", (240, 240, 240)),
        ("cell 37.5 %", (0, 90, 200)),
        ("nucleus 0.0 %", (200, 0, 40)),
        ("ignore (hatched) 12.5 %", HATCH),
    ]
    empty = replace(one, pixels={})
    assert contact_sheet._legend_entries([empty], classes)[0] == ("1 crop of 1 slide", None)
    assert contact_sheet._legend_entries([empty], classes)[2] == ("cell 0.0 %", (0, 90, 200))
    assert contact_sheet._legend_entries([one, replace(two, slide="t")], classes)[0][0] == "2 crops of 2 slides"


@pytest.mark.parametrize(
    ("count", "columns", "side"), [(1, 1, 384), (2, 2, 384), (6, 3, 384), (7, 4, 384), (40, 8, 290), (323, 23, 96)]
)
def test_crops_are_three_to_two_and_as_large_as_fits(
    classes: ClassList, monkeypatch: pytest.MonkeyPatch, count: int, columns: int, side: int
) -> None:
    sides: list[int] = []

    def tile(_crop: LabelledCrop, _classes: ClassList, side: int) -> Image.Image:
        sides.append(side)
        return Image.new("RGB", (side, side), "black")

    monkeypatch.setattr(contact_sheet, "_tile", tile)
    monkeypatch.setattr(contact_sheet, "put_text", lambda *_: None)
    monkeypatch.setattr(contact_sheet, "legend", lambda _entries, width, _spacing: Image.new("RGB", (width, 50), "red"))
    sheet = draw_sheet([_crop("a", "s", cell=50, ignored=0)] * count, classes)
    rows = -(-count // columns)
    assert sides == [side] * count
    assert sheet.width == max(columns * (side + 10) + 10, 480)
    assert sheet.height == 10 + 50 + 10 + rows * (side + 22 + 10)
    pixels = np.array(sheet)
    assert (pixels[10:60] == (255, 0, 0)).all()
    black = pixels[..., 0] == 0
    high, wide = np.flatnonzero(black.any(axis=1)), np.flatnonzero(black.any(axis=0))
    assert (high[0], wide[0]) == (70, 10)
    assert high[-1] == 70 + (rows - 1) * (side + 32) + side - 1
    in_last_row = count - (rows - 1) * columns
    assert np.flatnonzero(black[high[-1]])[-1] == 10 + (in_last_row - 1) * (side + 10) + side - 1


def test_a_crop_keeps_its_shape_and_names_its_slide(
    tmp_path: Path, classes: ClassList, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert contact_sheet._tile(write(tmp_path, "wide", classes), classes, 96).size == (96, 64)
    assert contact_sheet._tile(write(tmp_path, "high", classes, width=20, height=40), classes, 96).size == (48, 96)
    line = write(tmp_path, "line", classes, width=300, height=15)
    assert contact_sheet._tile(line, classes, 10).size == (10, 1)
    texts: list[tuple[tuple[int, int], str]] = []
    monkeypatch.setattr(contact_sheet, "put_text", lambda _sheet, at, text: texts.append((at, text)))
    monkeypatch.setattr(contact_sheet, "legend", lambda _entries, width, _spacing: Image.new("RGB", (width, 50)))
    draw_sheet([line, replace(line, slide="line")], classes)
    assert texts == [((10, 70 + 384 + 3), "line  (s)"), ((10 + 394, 70 + 384 + 3), "line")]
