"""Crops at chosen places of a slide, with what was predicted there as shapes to correct."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.errors import LabelError, RecipeError
from cytoseg.geometry import Region, Size
from cytoseg.labels.proposal import proposal
from cytoseg.labels.sidecar import SUFFIX
from cytoseg.predict.outputs import CLASS_MAP, SUMMARY
from cytoseg.recipe import Recipe
from cytoseg.slides.crops import downsample_to
from cytoseg.slides.open import open_slide, read_at, slide_id
from cytoseg.slides.slide import Slide
from cytoseg.writing import atomic_path, write_atomically


@dataclass(frozen=True)
class Chosen:
    """Where crops are cut.

    Attributes:
        slide: The slide.
        places: (x, y) of each crop's middle, in level-0 pixels.
        predictions: Folder of the predicted slides; one that was not predicted gives crops without shapes.
    """

    slide: Path
    places: Sequence[tuple[int, int]]
    predictions: Path


def parse_place(text: str) -> tuple[int, int]:
    """Read ``x,y``.

    Raises:
        RecipeError: If it is something else.
    """
    x, comma, y = text.partition(",")
    if not (comma and x.strip().isdecimal() and y.strip().isdecimal()):
        raise RecipeError(f"--at {text!r}: write the middle of the crop in level-0 pixels, such as 20480,11264.")
    return int(x), int(y)


def cut_chosen(chosen: Chosen, recipe: Recipe, folder: Path) -> tuple[int, int]:
    """Write each crop as PNG with its sidecar, and with a labelme file where the slide was predicted.

    Args:
        chosen: Where.
        recipe: Decides size and resolution of the crops, and the classes.
        folder: Where to write; what somebody may have corrected there is never replaced.

    Returns:
        How many crops are new, and how many of them have shapes.

    Raises:
        SlideError: If the slide cannot be read.
        LabelError: If the slide was predicted with other classes.
    """
    new = shapes = 0
    with open_slide(chosen.slide) as slide:
        size = recipe.crops.size_px
        downsample = downsample_to(recipe.slides.mpp, slide, assume_mpp=recipe.slides.assumed_mpp(chosen.slide))
        side = round(size * downsample)
        for x, y in chosen.places:
            region = Region(x - side // 2, y - side // 2, side, side)
            path = folder / f"{slide_id(chosen.slide)}_{region.x}_{region.y}.png"
            if path.with_suffix(".json").exists() or path.exists():
                continue
            predicted = _predicted(slide, region, chosen.predictions, recipe, size)
            _write(path, read_at(slide, region, Size(size, size)), predicted, region, recipe, chosen.slide)
            new, shapes = new + 1, shapes + (predicted is not None)
    return new, shapes


def _predicted(
    slide: Slide, region: Region, predictions: Path, recipe: Recipe, size_px: int
) -> NDArray[np.uint8] | None:
    """Read the class map of a region, (size, size), ignore outside of the slide; None if it was not predicted."""
    done = predictions / slide_id(slide.path)
    if not (done / SUMMARY).is_file():
        return None
    summary = json.loads((done / SUMMARY).read_text(encoding="utf-8"))
    if list(summary["classes"]) != list(recipe.class_list().names):
        raise LabelError(f"{done}: predicted with the classes {', '.join(summary['classes'])}. Predict it again.")
    with open_slide(done / CLASS_MAP) as maps:
        scale = slide.levels[0].size.width / maps.levels[0].size.width
        ids = maps.read_region(region.at(scale))[..., 0]
    rows, columns = (np.arange(size_px) * length // size_px for length in ids.shape)
    return np.ascontiguousarray(ids[np.ix_(rows, columns)])


def _write(
    path: Path,
    picture: NDArray[np.uint8],
    predicted: NDArray[np.uint8] | None,
    region: Region,
    recipe: Recipe,
    slide: Path,
) -> None:
    where = [region.x, region.y, region.width, region.height]
    sidecar = {"slide": slide_id(slide), "region": where, "mpp": recipe.slides.mpp}
    write_atomically(path.with_name(path.stem + SUFFIX), json.dumps(sidecar))
    if predicted is not None:
        content = proposal(predicted, recipe.class_list(), picture=path.name)
        write_atomically(path.with_suffix(".json"), json.dumps(content, indent=1, ensure_ascii=False))
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary)
