import hashlib
import json
import os
import re
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.labels.index import (
    CropName,
    LabelIndex,
    LabelledCrop,
    load_index,
    pixel_hash,
    remove_crop,
    total_pixels,
    write_crop,
    write_index,
)
from cytoseg.labels.staging import staged

PICTURE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
LABELS = np.array([[0, 1, 1], [255, 255, 2]], np.uint8)


@pytest.fixture
def crop(tmp_path: Path, classes: ClassList) -> LabelledCrop:
    """A crop of 3x2 pixels, written with its index."""
    name = CropName("c1", "slide é", "c1.json")
    crop = write_crop(tmp_path, name, picture=PICTURE, label_map=LABELS, classes=classes)
    write_index(LabelIndex(tmp_path, classes.names, (crop,)))
    return crop


def change_index(folder: Path, **keys: Any) -> None:
    content = json.loads((folder / "index.json").read_bytes())
    (folder / "index.json").write_text(json.dumps(content | keys))


def test_what_was_written_is_read_back(tmp_path: Path, classes: ClassList, crop: LabelledCrop) -> None:
    index = load_index(tmp_path)
    assert index == LabelIndex(tmp_path, classes.names, (crop,))
    np.testing.assert_array_equal(index.crops[0].picture(), PICTURE)
    np.testing.assert_array_equal(index.crops[0].label_map(), LABELS)


def test_the_index_has_the_documented_fields(tmp_path: Path, crop: LabelledCrop) -> None:
    content = json.loads((tmp_path / "index.json").read_bytes())
    assert re.fullmatch(r".+ \(process \d+ on .+, at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)", content.pop("written_by"))
    assert content == {
        "format": 1,
        "classes": ["background", "cell", "nucleus"],
        "crops": [
            {
                "crop": "c1",
                "slide": "slide é",
                "width": 3,
                "height": 2,
                "source": "c1.json",
                "image_sha256": pixel_hash(PICTURE),
                "label_sha256": hashlib.sha256((tmp_path / "maps" / "c1.png").read_bytes()).hexdigest(),
                "pixels": {"background": 1, "cell": 2, "nucleus": 1},
                "ignored": 2,
            }
        ],
    }


def test_a_pixel_hash_tells_shapes_and_values_apart() -> None:
    assert pixel_hash(PICTURE) == pixel_hash(PICTURE.copy())
    assert pixel_hash(PICTURE) != pixel_hash(PICTURE.reshape(3, 2, 3))
    assert pixel_hash(PICTURE) != pixel_hash(PICTURE + 1)


def test_pixels_are_added_up(crop: LabelledCrop) -> None:
    assert total_pixels([crop, crop]) == {"background": 2, "cell": 4, "nucleus": 2}
    assert total_pixels([]) == {}


def test_a_changed_label_map_is_refused(tmp_path: Path, crop: LabelledCrop) -> None:
    Image.fromarray(LABELS.clip(1)).save(tmp_path / "maps" / "c1.png")
    with pytest.raises(LabelError, match=r"maps/c1\.png: was changed or damaged after the import"):
        crop.label_map()


@pytest.mark.parametrize("strange", [3, 254])
def test_an_id_that_is_no_class_is_named(tmp_path: Path, crop: LabelledCrop, strange: int) -> None:
    Image.fromarray(np.where(LABELS == 1, strange, LABELS).astype(np.uint8)).save(tmp_path / "maps" / "c1.png")
    with pytest.raises(LabelError, match=rf"maps/c1\.png: holds id {strange}, but there are 3 classes"):
        crop.label_map()


def test_a_changed_picture_is_refused(tmp_path: Path, crop: LabelledCrop) -> None:
    Image.fromarray(PICTURE + 1).save(tmp_path / "crops" / "c1.png")
    with pytest.raises(LabelError, match=r"crops/c1\.png: was changed or damaged"):
        crop.picture()


def test_a_damaged_file_is_refused(tmp_path: Path, crop: LabelledCrop) -> None:
    (tmp_path / "maps" / "c1.png").write_text("no image")
    with pytest.raises(LabelError, match="was changed or damaged"):
        crop.label_map()


def test_a_missing_file_is_refused(tmp_path: Path, crop: LabelledCrop) -> None:
    (tmp_path / "maps" / "c1.png").unlink()
    with pytest.raises(LabelError, match=r"c1\.png: is missing\. Run"):
        crop.label_map()


def test_a_missing_index_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"there are no imported labels\. Run `cytoseg label-import` first"):
        load_index(tmp_path)


def test_an_index_of_another_format_is_refused(tmp_path: Path, crop: LabelledCrop) -> None:
    change_index(tmp_path, format=2)
    with pytest.raises(LabelError, match="has format 2, this version reads 1"):
        load_index(tmp_path)


@pytest.mark.parametrize("keys", [{"crops": [{}]}, {"crops": 3}, {"classes": None}, {"crops": [{"crop": "../../x"}]}])
def test_a_damaged_index_is_refused(tmp_path: Path, crop: LabelledCrop, keys: dict[str, Any]) -> None:
    change_index(tmp_path, **keys)
    with pytest.raises(LabelError, match=r"index\.json: is damaged"):
        load_index(tmp_path)


def test_an_index_of_two_crops_or_classes_of_one_name_is_refused(tmp_path: Path, crop: LabelledCrop) -> None:
    content = json.loads((tmp_path / "index.json").read_bytes())
    for keys in ({"crops": content["crops"] * 2}, {"classes": ["c1", "c1"]}):
        change_index(tmp_path, **(content | keys))
        with pytest.raises(LabelError, match=r"index\.json: is damaged .*it lists 'c1' twice"):
            load_index(tmp_path)


@pytest.mark.posix
def test_a_pipe_in_place_of_a_picture_or_map_is_refused(tmp_path: Path, crop: LabelledCrop) -> None:
    for folder, read in (("crops", crop.picture), ("maps", crop.label_map)):
        (tmp_path / folder / "c1.png").unlink()
        os.mkfifo(tmp_path / folder / "c1.png")
        with pytest.raises(LabelError, match=r"c1\.png: was changed or damaged"):
            read()


READERS = {"crops": LabelledCrop.picture, "maps": LabelledCrop.label_map}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("change", ["imported again", "of more classes", "removed"])
def test_who_imported_a_crop_again_is_named(
    read: Callable[[LabelledCrop], Any],
    change: str,
    tmp_path: Path,
    classes: ClassList,
    crop: LabelledCrop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["cytoseg", "label-import"])
    labels = LABELS // 255 if change == "imported again" else LABELS + 7
    name = CropName("c1", "slide é", "c1.json")
    new = write_crop(tmp_path, name, picture=PICTURE + 1, label_map=labels, classes=classes)
    if change == "removed":
        remove_crop(tmp_path, "c1")
    write_index(LabelIndex(tmp_path, classes.names, () if change == "removed" else (new,)))
    who = rf"cytoseg label-import \(process {os.getpid()} on .+, at .+ UTC\)"
    said = rf"{who} has imported labels while this command was reading them, and crop 'c1' is no longer the same\. Run"
    with pytest.raises(LabelError, match=f"^{re.escape(str(tmp_path))}: {said}"):
        read(crop)


@pytest.mark.parametrize(
    ("written", "who"), [("", "another command"), ("a\x1b[2J" + 300 * "b", r"a\x1b[2J" + 195 * "b")]
)
def test_who_imported_is_printable_and_short(
    written: str, who: str, tmp_path: Path, crop: LabelledCrop, classes: ClassList
) -> None:
    new = write_crop(tmp_path, CropName("c1", "s", "c1.json"), picture=PICTURE + 1, label_map=LABELS, classes=classes)
    write_index(LabelIndex(tmp_path, classes.names, (new,)))
    change_index(tmp_path, written_by=written)
    with pytest.raises(LabelError, match=f": {re.escape(who)} has imported labels"):
        crop.picture()


@pytest.mark.parametrize("read", [*READERS.values(), lambda crop: load_index(crop.folder)], ids=[*READERS, "index"])
def test_a_folder_that_is_being_replaced_is_read_anyway(
    read: Callable[[LabelledCrop], Any], tmp_path: Path, classes: ClassList
) -> None:
    labels = tmp_path / "labels"
    found = write_crop(labels, CropName("c1", "s", "c1.json"), picture=PICTURE, label_map=LABELS, classes=classes)
    write_index(LabelIndex(labels, classes.names, (found,)))
    ended = threading.Event()

    def keep_replacing() -> None:
        while not ended.wait(1e-3):
            with staged(labels):
                pass

    writer = threading.Thread(target=keep_replacing)
    writer.start()
    try:
        for _ in range(300):
            read(found)
    finally:
        ended.set()
        writer.join()


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_crop_of_a_folder_that_is_between_two_renames_is_read(
    read: Callable[[LabelledCrop], Any], tmp_path: Path, classes: ClassList
) -> None:
    labels, aside = tmp_path / "labels", tmp_path / ".labels-abcd1234" / "old"
    found = write_crop(labels, CropName("c1", "s", "c1.json"), picture=PICTURE, label_map=LABELS, classes=classes)
    write_index(LabelIndex(labels, classes.names, (found,)))
    aside.parent.mkdir()
    labels.rename(aside)
    read(found)
    assert (labels / "index.json").is_file()


def test_an_index_that_is_cut_off_is_refused(tmp_path: Path, crop: LabelledCrop) -> None:
    (tmp_path / "index.json").write_text('{"format": 1')
    with pytest.raises(LabelError, match=r"is damaged \(JSONDecodeError"):
        load_index(tmp_path)


@pytest.mark.parametrize("size", [{"width": 0}, {"height": -4}])
def test_a_crop_without_pixels_is_refused(tmp_path: Path, crop: LabelledCrop, size: dict[str, int]) -> None:
    entry = json.loads((tmp_path / "index.json").read_text())["crops"][0]
    change_index(tmp_path, crops=[entry | size])
    with pytest.raises(LabelError, match=r"index\.json: is damaged .*has no pixels"):
        load_index(tmp_path)


def test_a_picture_that_claims_another_size_is_not_unpacked(tmp_path: Path, crop: LabelledCrop) -> None:
    bomb = Image.new("L", (9000, 9000))
    for place, read in ((tmp_path / "crops", crop.picture), (tmp_path / "maps", crop.label_map)):
        bomb.save(place / "c1.png")
        tracemalloc.start()
        with pytest.raises(LabelError, match="was changed or damaged after the import"):
            read()
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()
