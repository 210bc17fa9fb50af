from pathlib import Path

import numpy as np
import pytest

from cytoseg.classes import ClassList
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
