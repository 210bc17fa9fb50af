from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.predict.outputs import Destination
from cytoseg.slides.open import open_slide
from cytoseg.slides.slide import Slide

MakeSlide = Callable[..., Slide]


@pytest.fixture
def two_classes() -> ClassList:
    return ClassList(("background", "cell"), ((240, 240, 240), (0, 90, 200)), "background")


@pytest.fixture
def destination(tmp_path: Path, two_classes: ClassList) -> Destination:
    folder, provenance = tmp_path / "predictions" / "slide", {"bundle": "abc", "tile_px": 8}
    return Destination(folder, two_classes, provenance, origin={"labels": "def"})


@pytest.fixture
def make_slide(tmp_path: Path) -> MakeSlide:
    """Open a slide of (H, W) grey values, with micrometres per pixel or None."""

    def make(pixels: Any, mpp: float | None = None) -> Slide:
        rgb = np.array(pixels, np.uint8)[..., None].repeat(3, axis=2)
        dpi = {} if mpp is None else {"dpi": (25_400 / mpp, 25_400 / mpp)}
        Image.fromarray(rgb).save(tmp_path / "slide.png", **dpi)
        return open_slide(tmp_path / "slide.png")

    return make


@pytest.fixture
def dark_is_cell() -> Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]]:
    """A predictor without any view of its surroundings: dark pixels are cells, and the red value is the uncertainty."""

    def predict(tiles: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        dark = tiles[..., 0] < 128
        probabilities = np.stack([~dark, dark], axis=1).astype(np.float32)
        return {"probabilities": probabilities, "disagreement": tiles[..., 0].astype(np.float32) / 255}

    return predict
