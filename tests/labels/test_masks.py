from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.labels.masks import find_pairs, has_masks, read_mask, read_pair

Write = Callable[..., Path]


def test_pictures_and_masks_are_paired_by_stem(tmp_path: Path, write_masks: Write) -> None:
    for stem in ("b", "a"):
        write_masks(tmp_path / "set", stem, [[0, 1]])
    (tmp_path / "set" / "images" / "notes.txt").write_text("left out")
    problems: list[str] = []
    pairs = find_pairs(tmp_path, problems)
    assert problems == []
    assert [(p.picture.name, p.mask.name, p.name) for p in pairs] == [
        ("a.png", "a.png", "set/masks/a.png"),
        ("b.png", "b.png", "set/masks/b.png"),
    ]
    assert has_masks(tmp_path)
    assert not has_masks(tmp_path / "set" / "masks")


def test_what_has_no_partner_is_told(tmp_path: Path, write_masks: Write, write_picture: Write) -> None:
    write_masks(tmp_path, "a", [[0]])
    write_picture(tmp_path / "images" / "b.jpg")
    write_picture(tmp_path / "masks" / "c.png")
    problems: list[str] = []
    assert len(find_pairs(tmp_path, problems)) == 1
    assert problems == [
        "images/b.jpg: has no mask in masks. Add one or take it out.",
        "masks/c.png: has no picture in images. Add it or take the mask out.",
    ]


def test_two_files_of_one_stem_are_told(tmp_path: Path, write_masks: Write, write_picture: Write) -> None:
    write_masks(tmp_path, "a", [[0]])
    write_picture(tmp_path / "images" / "a.jpg")
    problems: list[str] = []
    find_pairs(tmp_path, problems)
    assert problems == ["images/a.png: has the same stem as a.jpg. Rename one."]


def test_masks_without_images_are_told(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    problems: list[str] = []
    assert find_pairs(tmp_path, problems) == []
    assert problems == ["masks: has no folder 'images' beside it. Put the pictures there."]


def test_a_pair_is_read(tmp_path: Path, write_masks: Write, classes: ClassList) -> None:
    write_masks(tmp_path, "a", [[0, 2, 255]])
    problems: list[str] = []
    both = read_pair(find_pairs(tmp_path, problems)[0], classes, problems)
    assert both is not None
    assert both[0].shape == (1, 3, 3)
    assert both[1].dtype == np.uint8
    assert both[1].tolist() == [[0, 2, 255]]


def test_unknown_ids_are_told(tmp_path: Path, write_masks: Write, classes: ClassList) -> None:
    write_masks(tmp_path, "a", [[0, 3, 3, 9]])
    problems: list[str] = []
    assert read_pair(find_pairs(tmp_path, problems)[0], classes, problems) is None
    (problem,) = problems
    assert problem.startswith("masks/a.png: ids 3 (2 px), 9 (1 px) are not in the class list (0 background, 1 cell, ")


def test_another_size_is_told(tmp_path: Path, write_masks: Write, write_picture: Write, classes: ClassList) -> None:
    write_masks(tmp_path, "a", [[0, 1]])
    write_picture(tmp_path / "images" / "a.png", width=3, height=4)
    problems: list[str] = []
    assert read_pair(find_pairs(tmp_path, problems)[0], classes, problems) is None
    assert problems == ["masks/a.png: the mask is 2x1, but the picture 3x4. Make them the same size."]


def test_palette_masks_give_their_indices(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 2]], np.uint8))
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    image.save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", name="a").tolist() == [[0, 2]]


def test_one_bit_and_tiff_masks_are_read(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", name="a").tolist() == [[1, 0]]
    tifffile.imwrite(tmp_path / "a.tif", np.array([[1, 300]], np.uint16))
    assert read_mask(tmp_path / "a.tif", name="a").tolist() == [[1, 300]]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_damaged_mask_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("no image")
    with pytest.raises(LabelError, match=r"m: the mask is damaged or not an image"):
        read_mask(tmp_path / name, name="m")


def test_a_truncated_mask_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (64, 64), np.uint8)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LabelError, match="damaged"):
        read_mask(tmp_path / "a.png", name="m")


@pytest.mark.parametrize("values", [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.float32)])
def test_colours_and_fractions_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values)
    with pytest.raises(LabelError, match=r"not one channel of class ids\. Export ids, not colours"):
        read_mask(tmp_path / "a.tif", name="m")
