from pathlib import Path

import numpy as np
import pytest

from cytoseg.classes import ClassList
from cytoseg.formats.sidecar import Origin
from cytoseg.labels.corrections import Correction, save_correction
from cytoseg.review.inter_rater import compare_corrections


def correct(folder: Path, classes: ClassList, crop: str, author: str, ids: list[int], *, day: int = 1) -> Path:
    label_map = np.array([ids], np.uint8)
    return save_correction(
        folder,
        Correction(crop, author, f"2026-03-0{day}T00:00:00.000000+00:00", "prediction"),
        origin=Origin("s", None),
        picture=np.zeros((*label_map.shape, 3), np.uint8),
        label_map=label_map,
        classes=classes,
    ).path


def test_the_latest_maps_of_each_two_people_are_compared_and_pooled(tmp_path: Path, classes: ClassList) -> None:
    correct(tmp_path, classes, "a", "Ben", [0, 0, 1, 1])
    correct(tmp_path, classes, "a", "Anna", [2, 2, 2, 2])
    correct(tmp_path, classes, "a", "Anna", [0, 1, 1, 255], day=2)
    correct(tmp_path, classes, "b", "Anna", [0, 2])
    correct(tmp_path, classes, "b", "Ben", [0, 2])
    correct(tmp_path, classes, "b", "Cem", [2, 0])
    correct(tmp_path, classes, "c", "Cem", [2, 0])
    pairs, problems = compare_corrections(tmp_path, classes)
    assert problems == []
    assert [(pair.first, pair.second, pair.crops) for pair in pairs] == [
        ("Anna", "Ben", ("a", "b")),
        ("Anna", "Cem", ("b",)),
        ("Ben", "Cem", ("b",)),
    ]
    # Anna and Ben: of 3 pixels in a two are alike, both in b.
    assert (pairs[0].agreement.pixels, pairs[0].agreement.same) == (5, 4 / 5)
    assert pairs[0].agreement.iou == (2 / 3, 1 / 2, 1.0)
    assert pairs[1].agreement.kappa == pytest.approx(-1)
    (only,), _ = compare_corrections(tmp_path, classes, crop="a")
    assert (only.crops, only.agreement.pixels) == (("a",), 3)


def test_without_a_second_person_nothing_is_compared(tmp_path: Path, classes: ClassList) -> None:
    assert compare_corrections(tmp_path / "missing", classes) == ([], [])
    correct(tmp_path, classes, "a", "Anna", [0])
    correct(tmp_path, classes, "a", "Anna", [1], day=2)
    assert compare_corrections(tmp_path, classes) == ([], [])


def test_what_cannot_be_read_is_left_out_and_named(tmp_path: Path, classes: ClassList) -> None:
    correct(tmp_path, classes, "a", "Anna", [0, 1])
    correct(tmp_path, classes, "a", "Ben", [0, 1])
    correct(tmp_path, classes, "a", "Cem", [0, 1]).with_suffix(".png").unlink()
    (tmp_path / "a" / "x.json").write_text("{")
    pairs, problems = compare_corrections(tmp_path, classes)
    assert [(pair.first, pair.second) for pair in pairs] == [("Anna", "Ben")]
    assert [problem.split(":")[0] for problem in problems] == ["x.json", "Cem_20260301T000000Z.json"]


def test_maps_of_different_sizes_are_not_compared(tmp_path: Path, classes: ClassList) -> None:
    correct(tmp_path, classes, "a", "Anna", [0, 1])
    correct(tmp_path, classes, "a", "Ben", [0, 1, 1])
    assert compare_corrections(tmp_path, classes) == ([], [])
