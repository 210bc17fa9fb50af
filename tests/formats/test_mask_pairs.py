from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cytoseg.classes import ClassList
from cytoseg.formats.mask_pairs import find_pairs, has_folder, read_pair, white_id

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
    assert has_folder(tmp_path)
    assert not has_folder(tmp_path / "set" / "masks")


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        ("images/a.png", "masks/A.PNG"),
        ("Images/a.png", "MASKS/a.tif"),
        ("images/a.png", "masks/a.ome.tif"),
        ("images/o\u0308.png", "masks/\u00d6.png"),
    ],
)
def test_capitals_and_accents_part_no_pair(tmp_path: Path, write_picture: Write, picture: str, mask: str) -> None:
    write_picture(tmp_path / picture)
    write_picture(tmp_path / mask)
    problems: list[str] = []
    (pair,) = find_pairs(tmp_path, problems)
    assert (problems, pair.picture, pair.mask) == ([], tmp_path / picture, tmp_path / mask)


def test_of_masks_that_differ_in_capitals_each_has_its_picture(tmp_path: Path, write_masks: Write) -> None:
    for stem in ("a", "A"):
        write_masks(tmp_path, stem, [[0]])
    assert [(pair.picture.stem, pair.mask.stem) for pair in find_pairs(tmp_path, [])] == [("A", "A"), ("a", "a")]


def test_what_has_no_partner_is_reported(tmp_path: Path, write_masks: Write, write_picture: Write) -> None:
    write_masks(tmp_path, "a", [[0]])
    write_picture(tmp_path / "images" / "b.jpg")
    write_picture(tmp_path / "masks" / "c.png")
    problems: list[str] = []
    assert len(find_pairs(tmp_path, problems)) == 1
    assert problems == [
        "images/b.jpg: has no mask in masks. Add one or remove it.",
        "masks/c.png: has no image in images/. Add it or remove the mask.",
    ]


def test_two_files_of_one_stem_are_reported(tmp_path: Path, write_masks: Write, write_picture: Write) -> None:
    write_masks(tmp_path, "a", [[0]])
    write_picture(tmp_path / "images" / "a.jpg")
    problems: list[str] = []
    find_pairs(tmp_path, problems)
    assert problems == ["images/a.png: has the same stem as a.jpg. Rename one."]


def test_folders_within_images_and_masks_are_paired(tmp_path: Path, write_picture: Write) -> None:
    for name in ("P1/001", "P2/001", "P2/HE/001", ".old/001", "002"):
        write_picture(tmp_path / "images" / f"{name}.png")
        write_picture(tmp_path / "masks" / f"{name}.png")
    problems: list[str] = []
    pairs = find_pairs(tmp_path, problems)
    assert problems == []
    assert [(p.name, p.picture, p.place) for p in pairs] == [
        (f"masks/{name}.png", tmp_path / "images" / f"{name}.png", (tmp_path / name).parent)
        for name in ("002", "P1/001", "P2/001", "P2/HE/001")
    ]


def test_a_folder_of_masks_without_one_of_images_is_reported(
    tmp_path: Path, write_masks: Write, write_picture: Write
) -> None:
    write_masks(tmp_path / "set", "a", [[0]])
    write_picture(tmp_path / "set" / "masks" / "P1" / "b.png")
    problems: list[str] = []
    assert [pair.name for pair in find_pairs(tmp_path, problems)] == ["set/masks/a.png"]
    assert problems == ["set/images: has no folder P1 as set/masks does. Put the images there."]


def test_masks_without_images_are_reported(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    problems: list[str] = []
    assert find_pairs(tmp_path, problems) == []
    assert problems == ["masks: has no folder 'images' next to it. Put the images there."]


def test_a_pair_is_read(tmp_path: Path, write_masks: Write, classes: ClassList) -> None:
    write_masks(tmp_path, "a", [[0, 2, 255]])
    problems: list[str] = []
    both = read_pair(find_pairs(tmp_path, problems)[0], classes, problems, unsure=[])
    assert both is not None
    assert both[0].shape == (1, 3, 3)
    assert both[1].dtype == np.uint8
    assert both[1].tolist() == [[0, 2, 255]]


def test_unknown_ids_are_reported(tmp_path: Path, write_masks: Write, classes: ClassList) -> None:
    write_masks(tmp_path, "a", [[0, 3, 3, 9]])
    problems: list[str] = []
    assert read_pair(find_pairs(tmp_path, problems)[0], classes, problems, unsure=[]) is None
    (problem,) = problems
    assert problem == (
        "masks/a.png: ids 3 (2 px), 9 (1 px) are not in the class list (0 background, 1 cell, 2 nucleus; 255 ignore). "
        "Specify each with --map 3=nucleus (for example) or --ignore 3, or renumber the mask."
    )


def test_another_size_is_reported(tmp_path: Path, write_masks: Write, write_picture: Write, classes: ClassList) -> None:
    write_masks(tmp_path, "a", [[0, 1]])
    write_picture(tmp_path / "images" / "a.png", width=3, height=4)
    problems: list[str] = []
    assert read_pair(find_pairs(tmp_path, problems)[0], classes, problems, unsure=[]) is None
    assert problems == ["masks/a.png: the mask is 2x1, but the image 3x4. Make them the same size."]


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "gif", "npy"])
def test_a_mask_of_another_format_is_reported_by_name(
    tmp_path: Path, write_masks: Write, write_picture: Write, suffix: str
) -> None:
    write_masks(tmp_path, "a", [[0]])
    write_picture(tmp_path / "images" / "b.png")
    (tmp_path / "masks" / f"b.{suffix}").write_bytes(b"x")
    problems: list[str] = []
    find_pairs(tmp_path, problems)
    blurs = " JPEG blurs ids." if suffix.lower().startswith("jp") else ""
    assert problems == [f"masks/b.{suffix}: is not a PNG, TIFF or BMP.{blurs} Export the mask as PNG or TIFF."]


@pytest.mark.parametrize(
    ("masks", "count", "white"),
    [
        ([[0, 255]], 2, 1),
        ([[255, 255]], 2, 1),
        ([[0, 1], [0, 255]], 2, 1),
        ([[0, 1, 255]], 2, 255),
        ([[0, 1, 255], [0, 255]], 2, 255),
        ([[0, 0]], 3, 255),
        ([[0, 255]], 3, None),
        ([[0, 2], [0, 255]], 3, 255),
        ([[0, 255]], 1, 255),
    ],
)
def test_what_255_means_follows_from_the_whole_set(
    tmp_path: Path, write_masks: Write, classes: ClassList, masks: list[list[int]], count: int, white: int | None
) -> None:
    for number, values in enumerate(masks):
        write_masks(tmp_path, str(number), [values])
    (tmp_path / "masks" / "9.png").write_bytes(b"damaged")
    (tmp_path / "images" / "9.png").write_bytes(b"damaged")
    few = ClassList(classes.names[:count], classes.colours[:count])
    assert white_id(find_pairs(tmp_path, []), few) == white


def test_binary_masks_of_three_classes_are_refused(tmp_path: Path, write_masks: Write, classes: ClassList) -> None:
    write_masks(tmp_path, "a", [[0, 255, 255]])
    problems: list[str] = []
    (pair,) = find_pairs(tmp_path, problems)
    assert read_pair(replace(pair, white=None), classes, problems, unsure=[]) is None
    assert problems == [
        "masks/a.png: holds only 0 and 255 (2 px), but which of the 3 classes "
        "(0 background, 1 cell, 2 nucleus) 255 means is unknown. Specify it with --map 255=cell "
        "(for example), or --ignore 255."
    ]


def test_folders_that_differ_in_capitals_or_accents_are_paired(tmp_path: Path, write_masks: Write) -> None:
    mask = write_masks(tmp_path, "P1 Ö/deep/1", [[0, 1]])
    (tmp_path / "images" / "P1 Ö").rename(tmp_path / "images" / "p1 O\u0308")
    problems: list[str] = []
    (pair,) = find_pairs(tmp_path, problems)
    assert (pair.mask, pair.picture.parent.parent.name, problems) == (mask, "p1 O\u0308", [])
    (tmp_path / "images" / "P1 O\u0308").mkdir()  # now two are alike
    assert find_pairs(tmp_path, problems) == []
    assert problems == ["images: has no folder P1 Ö/deep as masks does. Put the images there."]
