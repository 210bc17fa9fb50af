from pathlib import Path

import numpy as np
import pytest

from cytoseg.classes import ClassList
from cytoseg.labels import contact_sheet
from cytoseg.labels.contact_sheet import HATCH, draw_sheet, overlay
from cytoseg.labels.index import CropName, LabelledCrop, write_crop


def write(folder: Path, crop: str, classes: ClassList, *, width: int = 30, height: int = 20) -> LabelledCrop:
    picture, label_map = np.full((height, width, 3), 100, np.uint8), np.zeros((height, width), np.uint8)
    label_map[5:15, 5:15] = 2
    return write_crop(folder, CropName(crop, "s", "x.json"), picture=picture, label_map=label_map, classes=classes)


def test_the_fill_class_stays_clear_and_others_are_veiled_and_outlined(classes: ClassList) -> None:
    picture, label_map = np.full((5, 5, 3), 100, np.uint8), np.zeros((5, 5), np.uint8)
    label_map[1:4, 1:4] = 2
    shown = overlay(picture, label_map, classes)
    assert shown[0, 0].tolist() == [100, 100, 100]
    assert shown[1, 1].tolist() == [200, 0, 40]
    assert shown[2, 2].tolist() == [130, 70, 82]  # 0.7 of 100 and 0.3 of the colour


def test_ignored_pixels_are_hatched(classes: ClassList) -> None:
    shown = overlay(np.full((4, 16, 3), 100, np.uint8), np.full((4, 16), 255, np.uint8), classes)
    assert shown[0].tolist() == [list(HATCH) if column % 8 < 2 else [100] * 3 for column in range(16)]


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


def test_a_name_of_thousands_of_characters_is_shortened_at_once() -> None:
    text = contact_sheet._fitted("a" * 100_000 + "b", 200)
    assert text == "aaaaaaaaaaa…aaaaaaaaaab"
