import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import LabelError
from cytoseg.workflows.edited_map import changed_region, read_map

CLASSES = ClassList(("glass", "nucleus"), ((240, 240, 240), (200, 80, 0)), fill="glass")


def _labelme(folder: Path, label: str) -> Path:
    Image.fromarray(np.full((12, 16, 3), 200, np.uint8)).save(folder / "crop.png")
    shape = {"label": label, "shape_type": "rectangle", "points": [[4, 2], [8, 6]], "flags": {}, "group_id": None}
    content = {"version": "5.0.0", "flags": {}, "shapes": [shape], "imagePath": "crop.png", "imageData": None}
    path = folder / "crop.json"
    path.write_text(json.dumps({**content, "imageHeight": 12, "imageWidth": 16}))
    return path


def test_a_labelme_file_is_painted_as_label_import_does(tmp_path: Path) -> None:
    found = read_map(_labelme(tmp_path, "nucleus"), CLASSES, (12, 16))
    wanted = np.zeros((12, 16), np.uint8)
    wanted[2:6, 4:8] = 1
    np.testing.assert_array_equal(found, wanted)


def test_an_image_of_ids_is_taken_as_it_is(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 255]], np.uint8)
    Image.fromarray(ids).save(tmp_path / "map.png")
    np.testing.assert_array_equal(read_map(tmp_path / "map.png", CLASSES, (1, 3)), ids)


def test_maps_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 2]], np.uint8)).save(tmp_path / "map.png")
    with pytest.raises(LabelError, match=r"map.png: holds id 2, but there are 2 classes \(glass, nucleus\)"):
        read_map(tmp_path / "map.png", CLASSES, (1, 2))
    with pytest.raises(LabelError, match=r"crop.json: the map has 16x12 px, the image 16x20 px"):
        read_map(_labelme(tmp_path, "nucleus"), CLASSES, (20, 16))
    with pytest.raises(LabelError, match=r"class 'cell' is not in the class list"):
        read_map(_labelme(tmp_path, "cell"), CLASSES, (12, 16))
    with pytest.raises(LabelError, match="there is no such file"):
        read_map(tmp_path / "gone.json", CLASSES, (12, 16))
    with pytest.raises(LabelError, match=r"gone.png"):
        read_map(tmp_path / "gone.png", CLASSES, (12, 16))


def test_the_region_is_what_changed_with_a_margin() -> None:
    before, after = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    after[10, 10] = 1
    after[0, 0] = IGNORE  # says nothing
    region = changed_region(before, after)
    far = np.abs(np.indices((20, 20)) - 10).sum(0)
    np.testing.assert_array_equal(region, far <= 4)
    assert not changed_region(before, before).any()
