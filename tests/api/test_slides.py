from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cytoseg as cs
from cytoseg.errors import SlideError

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Image.fromarray(PIXELS).save(tmp_path / "slide.png", dpi=(50_800, 50_800))
    return tmp_path / "slide.png"


@pytest.mark.parametrize("as_given", [str, Path])
def test_a_slide_is_opened_by_str_and_path(path: Path, as_given: type) -> None:
    with cs.open_slide(as_given(path)) as slide:
        assert slide.path == path
        assert slide.size == cs.Size(4, 4)
        assert slide.mpp == pytest.approx(0.5, rel=1e-3)
        assert [level.downsample for level in slide.levels] == [1.0]


@pytest.mark.parametrize("region", [(1, 2, 3, 2), cs.Region(1, 2, 3, 2), [1, 2, 3, 2], np.array([1, 2, 3, 2])])
def test_a_region_without_a_size_is_level_0(path: Path, region: cs.Region) -> None:
    with cs.open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(region), PIXELS[2:4, 1:4])


def test_a_region_is_read_at_the_size_asked_for_and_white_outside(path: Path) -> None:
    with cs.open_slide(path) as slide:
        halved = slide.read((0, 0, 4, 2), (2, 1))
        beyond = slide.read((3, 3, 2, 2), cs.Size(2, 2))
    assert halved.tolist() == [[[8, 9, 10], [14, 15, 16]]]  # means of 2x2 pixels, such as of 0, 3, 12, 15: 7.5
    np.testing.assert_array_equal(beyond[0, 0], PIXELS[3, 3])
    assert (beyond.reshape(4, 3)[1:] == 255).all()


@pytest.mark.parametrize(
    ("region", "size", "problem"),
    [
        ((0, 0, 10**6, 10**6), None, r"slide\.png: 1000000 x 1000000 px is too large for one array\. Pass a smaller"),
        ((0, 0, 10**9, 10**9), (9, 9), "region 1000000000 x 1000000000 px does not fit in memory. Read it in parts"),
        ((0, 0, 0, 2), None, "slide.png: region 0 x 2 px at 0 x 2: nothing to read"),
        ((0, 0, 2, 2), (2, 0), "region 2 x 2 px at 2 x 0"),
        ((0, 0, 2), None, r"region \(x, y, width, height\): found .*, but 4 whole numbers are wanted"),
        ((0, 0, 2.5, 2), None, "4 whole numbers"),
        ((0, 0, 2, 2), 7, "size .*2 whole numbers"),
        (cs.Size(4, 2), None, r"region \(x, y, width, height\): found \(4, 2\), but 4 whole numbers are wanted"),
        ((0, 0, 2, 2), cs.Region(0, 0, 2, 2), "size .*2 whole numbers"),
    ],
)
def test_what_is_no_region_or_size_is_refused(path: Path, region: Any, size: Any, problem: str) -> None:
    with cs.open_slide(path) as slide, pytest.raises(SlideError, match=problem):
        slide.read(region, size)


def test_what_is_no_slide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(cs.CytosegError, match="no such file"):
        cs.open_slide(str(tmp_path / "none.png"))


def test_a_slide_shows_its_size_in_a_notebook(path: Path) -> None:
    with cs.open_slide(path) as slide:
        assert repr(slide) == f"Slide({str(path)!r}, size=4x4, levels=1, mpp=0.5)"
