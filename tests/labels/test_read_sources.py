from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.labels.import_settings import ImportRules, ImportState
from cytoseg.labels.read_sources import find_items, read_item

Write = Callable[..., Path]


def test_labelme_files_come_before_masks(
    tmp_path: Path, write_labelme: Write, write_masks: Write, classes: ClassList
) -> None:
    write_masks(tmp_path, "m", [[0]])
    path = write_labelme(tmp_path / "labelme", "a")
    (tmp_path / "split.json").write_text("[]")
    state = ImportState(tmp_path, classes, ImportRules())
    assert find_items(tmp_path, state) == [path]
    assert state.notes == [
        "JSON files skipped (neither labelme nor GeoJSON): 1 (split.json).",
        "Folders named masks were skipped because there are labelme or GeoJSON files.",
    ]


def test_nothing_to_import_is_refused(tmp_path: Path, write_picture: Write, classes: ClassList) -> None:
    state = ImportState(tmp_path, classes, ImportRules())
    with pytest.raises(LabelError, match="contains neither labelme JSON nor GeoJSON nor images/"):
        find_items(tmp_path, state)
    with pytest.raises(LabelError, match=r"nowhere: does not exist\. Name a labelme or GeoJSON file"):
        find_items(tmp_path / "nowhere", state)
    with pytest.raises(LabelError, match=r"a\.png: is not a labelme JSON or GeoJSON file"):
        find_items(write_picture(tmp_path / "a.png"), state)


def test_packed_files_that_are_not_read_are_reported(tmp_path: Path, write_labelme: Write, classes: ClassList) -> None:
    packed = tmp_path / "a.json.GZ"
    packed.write_bytes(b"")
    with pytest.raises(LabelError, match=r"It holds packed files \(a\.json\.GZ\): unpack them\."):
        find_items(tmp_path, ImportState(tmp_path, classes, ImportRules()))
    with pytest.raises(LabelError, match=r"a\.tar\.gz: this archive format is not supported\. Unpack it"):
        find_items(packed.rename(tmp_path / "a.tar.gz"), ImportState(tmp_path, classes, ImportRules()))
    path, state = write_labelme(tmp_path, "a"), ImportState(tmp_path, classes, ImportRules())
    assert find_items(tmp_path, state) == [path]
    assert state.notes == ["Packed files skipped: 1 (a.tar.gz). Unpack them."]


def test_names_are_mapped_and_ignored_in_labelme_files(
    tmp_path: Path, write_labelme: Write, classes: ClassList
) -> None:
    def pixel(label: str, x: int) -> dict[str, Any]:
        return {"label": label, "shape_type": "point", "points": [[x, 0]]}

    path = write_labelme(tmp_path, "a", [pixel("nuclei", 0), pixel("artefact", 1), pixel("cell", 2)])
    state = ImportState(tmp_path, classes, ImportRules(class_map={"nuclei": "nucleus"}, ignore=("artefact",)))
    reading = read_item(path, state)
    assert reading is not None
    assert reading.label_map[0].tolist() == [2, 255, 1, 0, 0, 0]
    assert state.names == {"nuclei": 1, "artefact": 1, "cell": 1}


def test_names_are_mapped_and_ignored_in_masks(tmp_path: Path, write_masks: Write, classes: ClassList) -> None:
    write_masks(tmp_path, "a", [[0, 1, 2, 255]])
    state = ImportState(tmp_path, classes, ImportRules(class_map={"cell": "background"}, ignore=("nucleus",)))
    (item,) = find_items(tmp_path, state)
    reading = read_item(item, state)
    assert reading is not None
    assert reading.label_map.tolist() == [[0, 0, 255, 255]]


@pytest.mark.parametrize(
    ("values", "rules", "expected"),
    [
        ([0, 128, 255], {"class_map": {"128": "cell", "255": "nucleus"}}, [0, 1, 2]),
        ([0, 128, 255], {"class_map": {"128": "cell"}}, [0, 1, 255]),
        ([0, 1, 128], {"ignore": ("128",)}, [0, 1, 255]),
        ([0, 2, 2], {"class_map": {"2": "cell"}}, [0, 1, 1]),
        ([0, 1, 1], {"class_map": {"-0": "cell", "01": "nucleus"}}, [0, 1, 1]),  # no numbers
        ([0, 64, 192], {"class_map": {"64": "cell", "192": "nucleus", "7": "cell"}}, [0, 1, 2]),
    ],
)
def test_values_are_mapped_and_ignored_by_number(
    tmp_path: Path,
    write_masks: Write,
    classes: ClassList,
    values: list[int],
    rules: dict[str, Any],
    expected: list[int],
) -> None:
    write_masks(tmp_path, "a", [values])
    state = ImportState(tmp_path, classes, ImportRules(**rules))
    (item,) = find_items(tmp_path, state)
    reading = read_item(item, state)
    assert reading is not None, state.problems
    assert reading.label_map.tolist() == [expected]
    assert state.names["128"] == values.count(128)


def test_white_of_16_bits_is_mapped(tmp_path: Path, write_masks: Write, classes: ClassList) -> None:
    write_masks(tmp_path, "a", [[0, 0]])
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(tmp_path / "masks" / "a.png")
    state = ImportState(tmp_path, classes, ImportRules(class_map={"65535": "cell"}))
    (item,) = find_items(tmp_path, state)
    reading = read_item(item, state)
    assert reading is not None, state.problems
    assert reading.label_map.tolist() == [[0, 1]]


def test_a_wrong_sidecar_beside_a_masked_picture_is_reported(
    tmp_path: Path, write_masks: Write, classes: ClassList
) -> None:
    write_masks(tmp_path, "a", [[0]])
    (tmp_path / "images" / "a.crop.json").write_text("{")
    state = ImportState(tmp_path, classes, ImportRules())
    assert read_item(find_items(tmp_path, state)[0], state) is None
    assert "a.crop.json: is not complete JSON" in state.problems[0]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([[1, 1], [4, 1], [4, 3], [1, 3]], "drawn"),  # along the borders of pixels
        ([[1, 1], [3, 1], [4, 2], [1, 3]], "traced"),
        ([[1.5, 1], [3, 1], [4, 2], [1, 3]], "drawn"),
    ],
)
def test_polygons_of_pixel_indices_are_noticed(
    tmp_path: Path, write_labelme: Write, classes: ClassList, points: list[list[float]], expected: str
) -> None:
    state = ImportState(tmp_path, classes, ImportRules())
    read_item(write_labelme(tmp_path, "a", [{"label": "cell", "points": points}]), state)
    assert state.polygons == {expected: 1}


def test_crops_without_annotation_are_reported_as_waiting(tmp_path: Path, classes: ClassList) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(b"")
        (tmp_path / f"{name}.crop.json").write_text('{"slide": "s", "region": [0, 0, 8, 8]}')
    with pytest.raises(LabelError, match=r"nothing is annotated yet, 2 crops wait\. Open them in labelme"):
        find_items(tmp_path, ImportState(tmp_path, classes, ImportRules()))


@pytest.mark.parametrize("instances", [None, "nucleus"])
@pytest.mark.parametrize("image", ["B/images/1.png", "A/images/B/1.png", "A/images/1.PNG"])
def test_images_of_folders_without_masks_are_counted(
    tmp_path: Path, write_masks: Write, write_picture: Write, classes: ClassList, instances: str | None, image: str
) -> None:
    write_masks(tmp_path / "A", "2", [[0, 1]])
    write_picture(tmp_path / "A" / "images" / ".hidden.png")
    state = ImportState(tmp_path, classes, ImportRules(instances=instances))
    write_picture(tmp_path / image)
    items = find_items(tmp_path, state)
    assert len(items) == 1
    if image == "A/images/1.PNG":  # its folder has masks, so this one is missing
        assert len(state.problems) == 1
    else:
        assert state.notes == [f"Images skipped because their folder has no masks: 1 ({image})."]
