from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile

from cytoseg.errors import SlideError
from cytoseg.slides.open import open_slide
from cytoseg.slides.resolution import downsample_to
from cytoseg.slides.tissue_sources import SlideSource

Write = Callable[..., Path]
Find = Callable[..., list[SlideSource]]


def test_a_slide_smaller_than_a_crop_is_refused_by_name(write_map: Write, find: Find) -> None:
    with pytest.raises(SlideError, match=r"^low\.png: 64x15 px, smaller than a crop of 16x16\. Exclude it"):
        find(write_map(), write_map("low.png", height=15))


def test_all_bad_slides_are_named_together(write_map: Write, find: Find, tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"(?s)slides: 2 problems.*low\.png: 8x8 px.*gone\.png: no such file"):
        find(write_map("low.png", width=8, height=8), tmp_path / "gone.png", write_map())


def test_a_bad_slide_may_be_left_out_by_name(write_map: Write, find: Find, tmp_path: Path) -> None:
    said = list[str]()
    sources = find(write_map("a.png"), tmp_path / "gone.png", on_unreadable=said.append)
    assert [s.path.name for s in sources] == ["a.png"]
    assert len(said) == 1
    assert "gone.png: no such file" in said[0]
    assert said[0].startswith("Left out: ")
    with pytest.raises(SlideError, match=r"gone\.png: no such file"):
        find(tmp_path / "gone.png", on_unreadable=said.append)


def test_a_slide_that_was_cut_off_is_a_bad_one(write_map: Write, find: Find, tmp_path: Path) -> None:
    """Without a rule no pixel is read before the training is under way."""
    cut = tmp_path / "cut.tif"
    tifffile.imwrite(cut, np.zeros((64, 64, 3), np.uint8), tile=(16, 16), photometric="rgb")
    cut.write_bytes(cut.read_bytes()[:-10])
    with pytest.raises(SlideError, match=r"cut\.tif: truncated at level 0: 1 of 16 .* tile 15\. Copy the file"):
        find(write_map(), cut)


def test_slides_without_any_cells_are_refused(write_glass: Write, find: Find) -> None:
    with pytest.raises(SlideError, match=r"finds no cells on any slide\. Set slides\.background\.rule=none"):
        find(write_glass(), rule="threshold")


def test_a_missing_mpp_is_never_guessed(write_map: Write, find: Find) -> None:
    path = write_map("map.png")
    with pytest.raises(
        SlideError, match=r"map\.png: does not state its micrometres per pixel, but the recipe requires 0"
    ):
        find(path, mpp=0.5)
    with open_slide(path) as slide:
        assert downsample_to(None, slide) == 1.0
        assert downsample_to(0.5, slide, assume_mpp=0.2) == 2.5
    assert find(path, mpp=0.5, assume_mpp={path: 0.2})[0].side_px == 40


def test_a_slide_s_own_mpp_comes_first() -> None:
    slide: Any = SimpleNamespace(path=Path("a.svs"), mpp=0.25)
    assert downsample_to(1.0, slide, assume_mpp=0.5) == 4.0


def test_what_many_slides_have_in_common_is_said_once(write_map: Write, find: Find, tmp_path: Path) -> None:
    many = [write_map(f"{name}.png") for name in "abcde"]
    with pytest.raises(
        SlideError, match=r"^a\.png: does not state .* The same holds for b\.png, c\.png, d\.png and 1 more\.$"
    ) as caught:
        find(*many, mpp=0.5)
    assert "\n" not in str(caught.value)
    said = list[str]()
    assert len(find(*many, mpp=0.5, assume_mpp={many[0]: 0.5}, on_unreadable=said.append)) == 1
    assert said == [s for s in said if s.startswith("Left out: b.png: does not state")]
    assert len(said) == 1
