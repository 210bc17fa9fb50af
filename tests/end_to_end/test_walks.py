"""How many of our files a pixel passes on its way: a newcomer follows them one after another.

A walk is counted by the files whose functions hold the picture itself, known by its uneven size.
"""

import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from PIL import Image

from tests.end_to_end.conftest import RECIPE, run_command

SOURCE = str(Path(__file__).parents[2] / "cytoseg") + "/"
CROP_PX, LABELLED_PX = 40, 72
"""Sides of the crops and tiles, and of the labelled crops: no other array has two sides of so many pixels."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with labelled crops and a trained diffusion model, the crops and tiles of 40 px."""
    folder = tmp_path_factory.mktemp("walks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        recipe = RECIPE.replace("size_px: 32", "size_px: 40").replace("tile_px: 32", "tile_px: 40")
        recipe = recipe.replace("crops: 24", "crops: 8").replace("samples: 2", "samples: 0")
        (folder / "tiny.yaml").write_text(recipe.replace("steps: 40", "steps: 2"))
        run_command(
            *[
                "slides",
                "generate",
                "made",
                "--n",
                "3",
                "--width",
                "256",
                "--height",
                "256",
                "--crops",
                "1",
                "--crop-px",
                "72",
                "--seed",
                "2",
            ]
        )
        yield folder


def _holds(value: Any, side: int) -> bool:
    """Tell whether a value is a square picture or map of this side, or a short list of such."""
    if isinstance(value, tuple | list):
        return any(_holds(item, side) for item in value[:4])
    if isinstance(value, dict):
        return any(_holds(item, side) for item in list(value.values())[:4])
    shape = value.size if isinstance(value, Image.Image) else tuple(getattr(value, "shape", ()))
    return any(pair == (side, side) for pair in pairwise(shape))


def _walk(command: str, side: int) -> set[str]:
    """Run a command, and name the files whose functions hold the picture when they are called or when they end."""
    files = set[str]()

    def look(frame: FrameType, event: str, value: Any) -> None:
        path = frame.f_code.co_filename
        if path.startswith(SOURCE) and path not in files and event in ("call", "return"):
            held = list(frame.f_locals.values()) if event == "call" else [value]
            if any(_holds(item, side) for item in held):
                files.add(path)

    threading.setprofile(look)
    sys.setprofile(look)
    try:
        result = run_command(*command.split())
        assert result.exit_code == 0, result.output
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return {path.removeprefix(SOURCE) for path in files}


CHECKED_LATER = ("workflows/", "studies/", "features/", "diffusion/sample", "diffusion/schedule", "diffusion/unet")
"""What train-ddpm looks at crops with when the training is over: previews and the check of the features."""


@pytest.mark.usefixtures("home")
def test_walks_stay_short() -> None:
    crop = sorted(name for name in _walk("train-ddpm tiny.yaml", CROP_PX) if not name.startswith(CHECKED_LATER))
    assert {"slides/tiff.py", "slides/crops.py", "diffusion/loss.py"} <= set(crop)
    assert len(crop) <= 9, crop
    annotation = sorted(_walk("label-import made/labelled --recipe tiny.yaml", LABELLED_PX))
    assert {"formats/labelme.py", "formats/raster.py", "labels/index.py"} <= set(annotation)
    assert len(annotation) <= 8, annotation
    pixel = sorted(_walk("train-interpreter tiny.yaml", LABELLED_PX))
    assert {"labels/index.py", "features/extract.py", "features/pixels.py"} <= set(pixel)
    assert len(pixel) <= 8, pixel
    tile = sorted(_walk("predict tiny.yaml made/slides/made_2_00.ome.tif", CROP_PX))
    assert {"slides/tiff.py", "interpreter/bundle.py", "slides/stitching.py"} <= set(tile)
    assert len(tile) <= 14, tile
