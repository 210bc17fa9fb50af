from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoseg.formats.mask_pairs import find_voc_pairs
from cytoseg.formats.read_mask import read_mask
from cytoseg.formats.voc import find_voc

IDS = np.array([[0, 1, 255], [20, 1, 0]], np.uint8)


def _write(root: Path, *stems: str, masks: tuple[str, ...]) -> None:
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for stem in stems:
        Image.new("RGB", (3, 2)).save(root / "JPEGImages" / f"{stem}.jpg")
    for stem in masks:
        mask = Image.fromarray(IDS).convert("P")
        mask.putdata(IDS.ravel().tolist())
        mask.putpalette([value for i in range(256) for value in (i // 2, 255 - i, i)])
        mask.save(root / "SegmentationClass" / f"{stem}.png")


def test_pictures_with_masks_are_named_by_their_list(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    _write(root, "2007_000032", "2007_000033", "2007_000039", "2007_000042", masks=("2007_000032", "2007_000033", "x"))
    Image.new("RGB", (3, 2)).save(root / "JPEGImages" / "x.jpg")
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("2007_000032\r\n\r\n2007_000039\r\n")
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000033\n")
    problems: list[str] = []
    pairs = find_voc_pairs(tmp_path, problems)
    assert [pair.stem for pair in pairs] == ["train_2007_000032", "val_2007_000033", "x"]
    assert pairs[0].name == "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png"
    assert pairs[0].picture == root / "JPEGImages" / "2007_000032.jpg"
    np.testing.assert_array_equal(read_mask(pairs[0].mask, name="a"), IDS)  # indices, not colours
    assert problems == []


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    _write(tmp_path, "a", "b", masks=("a", "b", "c"))
    lists = tmp_path / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_bytes(b"b\n\xff\xfe\n")
    (lists / "test.txt").mkdir()
    problems: list[str] = []
    assert [crop for _, _, crop in find_voc(tmp_path, problems)] == ["train_a", "train_b"]
    assert problems == [
        "ImageSets/Segmentation/val.txt: names 'b' again. Keep it in one list.",
        "SegmentationClass/c.png: has no image JPEGImages/c.jpg. Add it or remove the mask.",
    ]


def test_a_list_that_is_none_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, "a", masks=("a",))
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n" * 10)
    monkeypatch.setattr("cytoseg.formats.voc._MAX_BYTES", 10)
    problems: list[str] = []
    assert [crop for _, _, crop in find_voc(tmp_path, problems)] == ["a"]
    assert problems == [
        "ImageSets/Segmentation/train.txt: cannot be read (20 bytes, too large for a list of names). Fix or remove it."
    ]


def test_hidden_folders_and_other_layouts_are_left(tmp_path: Path) -> None:
    _write(tmp_path / ".cache", "a", masks=("a",))
    (tmp_path / "SegmentationClass").write_text("a file")
    assert find_voc(tmp_path, []) == []
