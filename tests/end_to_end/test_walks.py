"""Number of our files that a pixel passes through on each walk.

A walk is counted by the files whose functions hold the image itself, known by its uneven size. That of a queued
region is counted by those that hold the region: its place, its pixels, or the shapes in it.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from PIL import Image

from cytoseg.formats.annotation import Shape
from cytoseg.geometry import Region
from tests.end_to_end.cases import cut_part
from tests.end_to_end.conftest import RECIPE, run_command

SOURCE = str(Path(__file__).parents[2] / "cytoseg") + "/"
CROP_PX, LABELLED_PX, QUEUED_PX = 40, 72, 56
"""Sides of the crops and tiles, and of labelled and queued crops: no other array has two sides of so many pixels."""


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
    """Tell whether a value is a square image or map of this side, or a short list of such."""
    if isinstance(value, tuple | list):
        return any(_holds(item, side) for item in value[:4])
    if isinstance(value, dict):
        return any(_holds(item, side) for item in list(value.values())[:4])
    shape = value.size if isinstance(value, Image.Image) else getattr(value, "shape", ())
    return isinstance(shape, tuple) and any(pair == (side, side) for pair in pairwise(shape))


def _holds_region(value: Any, side: int) -> bool:
    """Tell whether a value is a region of this side, its image or maps, shapes drawn in it, or holds one of these."""
    if isinstance(value, Region):
        return value.width == value.height == side
    if isinstance(value, Shape):
        return True
    if isinstance(value, tuple | list):
        return any(_holds_region(item, side) for item in value[:4])
    if isinstance(value, dict):
        return "imagePath" in value or any(_holds_region(item, side) for item in list(value.values())[:4])
    if is_dataclass(value) and not isinstance(value, type):
        return any(_holds_region(getattr(value, field.name), side) for field in fields(value))
    return _holds(value, side)


def _walk(command: str, side: int, holds: Callable[[Any, int], bool] = _holds) -> set[str]:
    """Run a command, and name the files whose functions hold the image when they are called or when they end."""
    files = set[str]()

    others = set[str]()  # files of libraries, and ours that are found: calls of C functions are most of all events

    def look(frame: FrameType, event: str, value: Any) -> None:
        if event not in ("call", "return"):
            return
        path = frame.f_code.co_filename
        if path in others:
            return
        if not path.startswith(SOURCE) or path in files:
            others.add(path)
        else:
            held = list(frame.f_locals.values()) if event == "call" else [value]
            if any(holds(item, side) for item in held):
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


CHECKED_LATER = ("workflows/", "studies/", "features/", "diffusion/sample", "diffusion/add_noise", "diffusion/unet")
"""What train-ddpm handles crops with when the training is over: previews."""


@pytest.mark.usefixtures("home", "unchecked")
def test_walks_stay_short() -> None:
    crop = sorted(name for name in _walk("train-ddpm tiny.yaml", CROP_PX) if not name.startswith(CHECKED_LATER))
    assert {"slides/tiff.py", "slides/crops.py", "diffusion/network_output.py"} <= set(crop)
    assert len(crop) <= 9, crop
    annotation = sorted(_walk("label-import made/labelled --recipe tiny.yaml", LABELLED_PX))
    assert {"formats/labelme.py", "formats/raster.py", "labels/index.py"} <= set(annotation)
    assert len(annotation) <= 7, annotation
    pixel = sorted(_walk("train-interpreter tiny.yaml", LABELLED_PX))
    assert {"labels/index.py", "features/extract.py", "features/pixel_table.py"} <= set(pixel)
    assert len(pixel) <= 8, pixel
    tile = sorted(_walk(f"predict tiny.yaml {cut_part('made_2_02', 'part.tif')}", CROP_PX))
    assert {"slides/tiff.py", "interpreter/bundle.py", "slides/stitching.py"} <= set(tile)
    assert len(tile) <= 13, tile
    region = _walk(f"queue tiny.yaml --n 1 labels.crop_px={QUEUED_PX}", QUEUED_PX, _holds_region)
    _correct_the_proposal(Path("runs/tiny/queue"))
    region |= _walk("label-import runs/tiny/queue --recipe tiny.yaml", QUEUED_PX, _holds_region)
    assert {
        "active_learning/candidates.py",
        "labels/proposal_file.py",
        "formats/raster.py",
        "labels/index.py",
    } <= region
    assert len(region) <= 32, sorted(region)


def _correct_the_proposal(queue: Path) -> None:
    """Draw a nucleus, as in labelme."""
    (path,) = (picture.with_suffix(".json") for picture in queue.glob("*.png"))
    content = json.loads(path.read_text())
    content["shapes"].append({"label": "nucleus", "shape_type": "polygon", "points": [[5, 5], [20, 5], [20, 20]]})
    path.write_text(json.dumps(content))
