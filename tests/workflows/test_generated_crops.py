"""Crops cut from an image that a diffusion model drew are marked as generated, whichever way they are cut."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoseg.active_learning import cut_crops
from cytoseg.active_learning.candidates import Frame
from cytoseg.active_learning.cut_crops import Cutting
from cytoseg.geometry import Region
from cytoseg.recipe import Recipe, dump_recipe, load_recipe
from cytoseg.slides.generated_mark import GeneratedMark, drawn_mark, edited_mark, png_text, read_mark
from cytoseg.workflows.annotating import Annotating
from cytoseg.workflows.random_places import Place, write_place

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
REGION = Region(8, 16, 32, 32)
PART = PICTURE[16:48, 8:40]


def _recipe(folder: Path) -> Recipe:
    recipe = load_recipe("quickstart", [f"slides.folders=[{folder}]", "slides.mpp=null", "labels.crop_px=32"])
    (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    return recipe


def _by_label_crops(slide: Path) -> Path:
    folder = slide.parent / "to_label"
    assert write_place(Place(slide, REGION, PART), _recipe(slide.parent), folder, guess=None)
    return folder / "drawn_8_16.png"


def _by_queue(slide: Path) -> Path:
    recipe = _recipe(slide.parent)
    path = slide.parent / "queued.png"
    cutting = Cutting(Frame(32, recipe.slides), recipe.class_list())
    cut_crops._write(path, PART, None, REGION, cutting, slide)
    return path


def _by_app(slide: Path) -> Path:
    _recipe(slide.parent)
    return Annotating(slide.parent).cut(slide, "drawn", REGION)


@pytest.mark.parametrize("cut", [_by_label_crops, _by_queue, _by_app])
@pytest.mark.parametrize(
    "mark",
    [drawn_mark("run tiny"), edited_mark("crop a_0_0", slide="a", of="0" * 64), None],
    ids=lambda mark: str(mark)[:9],
)
def test_a_crop_has_the_mark_of_its_slide(
    tmp_path: Path, cut: Callable[[Path], Path], mark: GeneratedMark | None
) -> None:
    slide = tmp_path / "drawn.png"
    Image.fromarray(PICTURE).save(slide, pnginfo=png_text(mark))
    path = cut(slide)
    assert read_mark(path) == mark
    np.testing.assert_array_equal(np.asarray(Image.open(path)), PART)
