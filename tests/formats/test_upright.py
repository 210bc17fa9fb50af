from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.formats.upright import read_upright
from cytoseg.labels.import_labels import import_labels
from cytoseg.labels.import_settings import ImportRules
from cytoseg.slides.orientation import turned

IDS = np.array([[0, 1, 2, 0], [3, 1, 0, 0]], np.uint8)


def _write(folder: Path, ids: NDArray[np.uint8], turn: int, *, shape: tuple[int, int]) -> tuple[Path, Path]:
    """Write an image with an orientation tag whose stored pixels are of these ids, and a mask without one."""
    picture, mask = folder / "images" / "a.png", folder / "masks" / "a.png"
    exif = Image.Exif()
    exif[274] = turn
    for path in (picture, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.resize(IDS, shape)).convert("RGB").save(picture, exif=exif)
    Image.fromarray(ids).save(mask)
    return picture, mask


@pytest.mark.parametrize("turn", [5, 6, 7, 8])
@pytest.mark.parametrize("drawn", ["as stored", "upright"])
def test_the_mask_lies_on_its_image_on_whichever_it_was_drawn(tmp_path: Path, turn: int, drawn: str) -> None:
    ids = IDS if drawn == "as stored" else turned(IDS, turn)
    unsure: list[str] = []
    pixels, values = read_upright(*_write(tmp_path, ids, turn, shape=(2, 4)), name="m", unsure=unsure)
    assert_array_equal(pixels[..., 0], turned(IDS, turn))
    assert_array_equal(values, pixels[..., 0])
    assert unsure == []


@pytest.mark.parametrize(
    ("turn", "shape", "expected"), [(1, (2, 4), []), (3, (2, 4), ["m"]), (6, (2, 2), ["m"]), (3, (4, 8), ["m"])]
)
def test_a_mask_that_fits_both_ways_is_named(
    tmp_path: Path, turn: int, shape: tuple[int, int], expected: list[str]
) -> None:
    unsure: list[str] = []
    ids = IDS[:, : min(4, shape[1])]
    assert_array_equal(read_upright(*_write(tmp_path, ids, turn, shape=shape), name="m", unsure=unsure)[1], ids)
    assert unsure == expected


@pytest.mark.parametrize("instances", [None, "nucleus"])
@pytest.mark.parametrize(("turn", "noted"), [(3, True), (6, False)])
def test_an_import_reports_masks_that_fit_both_ways(
    tmp_path: Path, classes: ClassList, turn: int, noted: bool, instances: str | None
) -> None:
    _write(tmp_path / "set", IDS % np.uint8(3), turn, shape=(2, 4))
    rules = ImportRules(instances=instances)
    report = import_labels(tmp_path / "set", tmp_path / "labels", classes=classes, rules=rules)
    assert (report.crops[0].height, report.crops[0].width) == ((2, 4) if turn == 3 else (4, 2))
    told = "Masks of images that were turned upright by their orientation tag: 1, first masks/a.png."
    assert any(note.startswith(told) for note in report.notes) == noted
