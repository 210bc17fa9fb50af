import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.geometry import Region
from cytoseg.labels.annotated import annotated_regions, remove_partial, waiting_regions
from cytoseg.labels.import_labels import import_labels
from cytoseg.labels.import_settings import ImportRules
from cytoseg.labels.proposal_file import sealed

CLASSES = ClassList(("glass", "cell"), ((240, 240, 240), (200, 0, 0)), "glass")


def _crop(folder: Path, name: str, sidecar: dict[str, object] | None) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), len(name), np.uint8)).save(folder / f"{name}.png")
    points = [[1, 1], [6, 1], [6, 6]]
    shape = {"label": "cell", "points": points, "shape_type": "polygon", "group_id": None, "flags": {}}
    size = {"imageHeight": 8, "imageWidth": 8}
    content = {"version": "5.5.0", "flags": {}, "shapes": [shape], "imagePath": f"{name}.png", "imageData": None}
    (folder / f"{name}.json").write_text(json.dumps(content | size))
    if sidecar is not None:
        (folder / f"{name}.crop.json").write_text(json.dumps(sidecar))


def test_regions_are_those_of_the_imported_sidecars(tmp_path: Path) -> None:
    source = tmp_path / "marks"
    _crop(source, "a", {"slide": "smear_1", "region": [10, 20, 8, 8]})
    _crop(source, "bb", {"slide": "smear_1", "region": [50, 20, 8, 8]})
    _crop(source, "ccc", {"slide": "smear_2", "region": None})
    _crop(source, "dddd", None)
    assert annotated_regions(tmp_path / "labels") == {}
    import_labels(source, tmp_path / "labels", classes=CLASSES, rules=ImportRules())
    wanted = {"smear_1": [Region(10, 20, 8, 8), Region(50, 20, 8, 8)]}
    assert annotated_regions(tmp_path / "labels") == wanted
    assert waiting_regions(source) == wanted


def test_a_crop_written_in_part_holds_no_region_and_saved_marks_do(tmp_path: Path) -> None:
    _crop(tmp_path, "a", {"slide": "smear_1", "region": [10, 20, 8, 8]})
    _crop(tmp_path, "bb", {"slide": "smear_1", "region": [50, 20, 8, 8]})
    for name in ("a.png", "a.json", "bb.png"):
        (tmp_path / name).unlink()
    assert waiting_regions(tmp_path) == {"smear_1": [Region(50, 20, 8, 8)]}


@pytest.mark.parametrize("there", [("a.crop.json",), ("a.crop.json", "a.json"), ("a.json",), ()])
def test_what_a_kill_left_of_a_crop_without_a_picture_goes(there: tuple[str, ...], tmp_path: Path) -> None:
    for name in there:
        (tmp_path / name).write_text(sealed({"shapes": []}))
    remove_partial(tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", ["a.png", "a.json"])
def test_a_picture_and_saved_marks_stay_with_their_sidecar(kept: str, tmp_path: Path) -> None:
    _crop(tmp_path, "a", {"slide": "smear_1", "region": [10, 20, 8, 8]})
    (tmp_path / ("a.json" if kept == "a.png" else "a.png")).unlink()
    remove_partial(tmp_path / "a.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([kept, "a.crop.json"])


def test_nothing_waits_where_there_is_no_folder(tmp_path: Path) -> None:
    assert waiting_regions(tmp_path / "none") == {}


def test_a_damaged_sidecar_is_reported(tmp_path: Path) -> None:
    _crop(tmp_path, "a", None)
    (tmp_path / "a.crop.json").write_text("{")
    with pytest.raises(LabelError, match=r"a\.crop\.json: is not complete JSON"):
        waiting_regions(tmp_path)
