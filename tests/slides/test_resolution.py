from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoseg.errors import SlideError
from cytoseg.slides.open import open_slide
from cytoseg.slides.resolution import downsample_to


@pytest.mark.parametrize(("dpi", "assumed", "wanted"), [(50_800, None, 2.0), (None, 0.25, 4.0), (50_800, 0.25, 2.0)])
def test_what_the_slide_says_comes_before_what_is_assumed(
    tmp_path: Path, dpi: int | None, assumed: float | None, wanted: float
) -> None:
    options = {} if dpi is None else {"dpi": (dpi, dpi)}  # 50,800 dots per inch are .5 micrometres per pixel
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png", **options)
    with open_slide(tmp_path / "a.png") as slide:
        assert downsample_to(1.0, slide, assume_mpp=assumed) == pytest.approx(wanted, rel=1e-3)
        assert downsample_to(None, slide) == 1.0


def test_nothing_is_guessed(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    with (
        open_slide(tmp_path / "a.png") as slide,
        pytest.raises(SlideError, match=r"a\.png: does not state its micrometres per pixel, but the recipe"),
    ):
        downsample_to(1.0, slide)
