import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.errors import CytosegError, LabelError
from cytoseg.features.extract import NativeFeatures
from cytoseg.studies.feature_selection.limits import affordable_crops, pixels_within
from cytoseg.studies.feature_selection.settings import Question

Ask = Callable[..., Question]


@dataclass(frozen=True)
class _Square:
    crop: str
    slide: str
    side: int

    def picture(self) -> NDArray[np.uint8]:
        return np.zeros((self.side, self.side, 3), np.uint8)


def test_all_crops_are_used_where_there_is_time(made_question: Ask, extractor_of: Any, tmp_path: Path) -> None:
    question = made_question()
    crops = affordable_crops(question, extractor_of, seconds=600, path=tmp_path / "crops.json")
    assert sorted(c.crop for c in crops) == ["a_0", "a_1", "b_0", "c_0"]


def test_more_time_changes_nothing_once_all_crops_are_used(
    made_question: Ask, extractor_of: Any, tmp_path: Path
) -> None:
    path, question = tmp_path / "crops.json", made_question()
    assert len(affordable_crops(question, extractor_of, seconds=600, path=path)) == 4

    def not_again(_settings: Any) -> Any:
        raise AssertionError("nothing needs to be timed")

    assert len(affordable_crops(question, not_again, seconds=1200, path=path)) == 4
    with pytest.raises(AssertionError, match="timed"):
        affordable_crops(question, not_again, seconds=300, path=path)
    for other in (
        replace(question, present=replace(question.present, scale=2)),
        replace(question, extractors=("ddpm", "filters", "pretrained")),
    ):  # takes longer
        with pytest.raises(AssertionError, match="timed"):
            affordable_crops(other, not_again, seconds=600, path=path)


def test_of_many_crops_as_many_are_used_as_two_fifths_of_the_time_allow(
    made_question: Ask, extractor_of: Any, tmp_path: Path
) -> None:
    question = made_question()
    many = [replace(question.crops[0], crop=f"{s}_{n}", slide=s) for s in "abc" for n in range(40)]

    def slow(settings: Any) -> Any:
        fast = extractor_of(settings)

        def extract(pictures: Tensor) -> NativeFeatures:
            time.sleep(0.02)
            features: NativeFeatures = fast(pictures)
            return features

        return extract

    path = tmp_path / "crops.json"
    used = affordable_crops(made_question(crops=many), slow, seconds=1, path=path)
    assert 5 <= len(used) <= 20
    slides = [c.slide for c in used]
    assert sorted(slides[:3]) == ["a", "b", "c"]  # one of each slide in turn
    assert slides == [slides[i % 3] for i in range(len(slides))]
    # A second run uses the same crops, however fast it is; one with another limit does not.
    assert affordable_crops(made_question(crops=many), extractor_of, seconds=1, path=path) == used
    assert len(affordable_crops(made_question(crops=many), extractor_of, seconds=600, path=path)) == 120
    # At least one crop for each fold.
    assert len(affordable_crops(made_question(crops=many), slow, seconds=0, path=path)) == 3
    assert json.loads(path.read_text())["crops"] == 3


def test_large_crops_take_their_share_of_the_time(made_question: Ask, tmp_path: Path) -> None:
    """One of 32 px begins, twenty of 160 px follow; each pixel takes a microsecond, so 19 large crops take .49 s."""
    small, large = _Square("a_0", "a", 32), [_Square(f"{s}_{n}", s, 160) for s in "bc" for n in range(10)]

    def slow(_settings: Any) -> Any:
        def extract(pictures: Tensor) -> NativeFeatures:
            time.sleep(1e-6 * pictures.shape[2] * pictures.shape[3])
            size = (pictures.shape[2], pictures.shape[3])
            return NativeFeatures([pictures], size, size)

        return extract

    question = made_question(crops=[small, *large], details={"labels": "squares"})
    used = affordable_crops(question, slow, seconds=0.6, path=tmp_path / "crops.json")
    assert 3 <= len(used) <= 10  # .24 s hold the small one and nine large ones


def test_crops_of_one_slide_are_refused(made_question: Ask, extractor_of: Any, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="are from slide a"):
        affordable_crops(
            made_question(crops=made_question().crops[:2]), extractor_of, seconds=1, path=tmp_path / "crops.json"
        )


def test_pixels_are_fewer_where_memory_is_short(made_question: Ask, extractor_of: Any) -> None:
    question = made_question()
    # Two taps at two timesteps and 72 filters, two bytes each; pixels to train on count twice.
    needed = 2 * (4 + 72) * 4 * (2 * 60 + 100)
    assert pixels_within(question, extractor_of, question.crops, memory_bytes=needed) == (60, 100)
    assert pixels_within(question, extractor_of, question.crops, memory_bytes=needed // 2) == (30, 50)


def test_too_little_memory_is_refused_with_what_is_enough(made_question: Ask, extractor_of: Any) -> None:
    effort = replace(made_question().effort, train_px=60_000, held_out_px=100_000)
    question = made_question(effort=effort)
    with pytest.raises(CytosegError, match=r"^select-features: 0 MB of memory is too little for 4 crops") as caught:
        pixels_within(question, extractor_of, question.crops, memory_bytes=100)
    named = re.search(r"--memory (\d+)M", str(caught.value))
    assert named is not None
    enough = max(1, int(named[1])) * 10**6
    assert min(pixels_within(question, extractor_of, question.crops, memory_bytes=enough)) >= 16
