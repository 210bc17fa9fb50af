"""Refusing labelled sources that overlap a run's labelled crops."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.errors import LabelError, SlideError
from cytoseg.geometry import Region, Size
from cytoseg.labels.index import LabelIndex, LabelledCrop, load_index
from cytoseg.labels.original_annotation import read_original
from cytoseg.recipe import Recipe
from cytoseg.slides.open import find_slides, open_slide, read_at, slide_id
from cytoseg.terminal import say

_ANCHOR_PX = 16
_ALIKE = 4.0
"""Mean grey-level difference up to which two images are the same: above JPEG artefacts, below different slides."""

Picture = NDArray[np.uint8]


def refuse_sources_of_own(recipe: Recipe) -> None:
    """Refuse existing sources that overlap the run's labelled crops, even if the labels came after the training.

    Raises:
        LabelError: If a source has such a crop.
    """
    for number, source in enumerate(recipe.labels.sources):
        if (source.folder / "index.json").is_file():
            refuse_own_crops(load_index(source.folder), recipe, f"labels.sources[{number}]")


def refuse_own_crops(source: LabelIndex, recipe: Recipe, where: str) -> None:
    """Refuse a source that would leak labelled crops or held-out slides into training.

    Refused is a crop that equals, lies in or contains a labelled crop of the run; and a crop of a slide with labelled
    crops, if the recipe's slide of that name shows the same at the crop's region.

    Args:
        source: The source's crops.
        recipe: The run's recipe.
        where: Name of the source in messages.

    Raises:
        LabelError: If there is such a crop.
    """
    if not (recipe.labels_folder() / "index.json").is_file():
        return
    own = load_index(recipe.labels_folder()).crops
    hashes = {crop.image_sha256: crop.crop for crop in own}
    pictures = {crop.crop: crop.picture() for crop in own}
    slides, unsure = _slide_files(recipe), set[str]()
    for crop in source.crops:
        twin = hashes.get(crop.image_sha256) or _overlapping(crop.picture(), pictures)
        if twin is not None:
            raise LabelError(
                f"{where}: {crop.crop} is also a labelled crop of this run, or part of one ({twin}). "
                "Remove it from the source."
            )
        if crop.slide in {one.slide for one in own}:
            if _is_of(crop, slides):
                raise LabelError(
                    f"{where}: {crop.crop} is from slide '{crop.slide}', which has labelled crops in this run. "
                    "Remove it from the source."
                )
            unsure.add(crop.slide)
    if unsure:
        named = ", ".join(sorted(unsure)[:5])
        say(f"{where}: slides of this run have the same names ({named}) but apparently other content.")


def _overlapping(picture: Picture, others: Mapping[str, Picture]) -> str | None:
    """Return the name of the image that contains this one or is contained in it."""
    return next((name for name, other in others.items() if lies_in(picture, other) or lies_in(other, picture)), None)


def lies_in(part: Picture, whole: Picture) -> bool:
    """Return whether an image is an exact part of a larger one.

    Args:
        part: (h, w, 3) uint8.
        whole: (H, W, 3) uint8.

    Returns:
        False also for a part without content.
    """
    height, width = part.shape[:2]
    if part.shape[1] < _ANCHOR_PX or height > whole.shape[0] or width > whole.shape[1] or part.shape == whole.shape:
        return False
    row, column = _most_varied(part)
    anchor = part[row, column : column + _ANCHOR_PX]
    if (anchor == anchor[0]).all():
        return False
    places = ((y - row, x - column) for y, x in _found(anchor, whole))
    return any(y >= 0 and x >= 0 and np.array_equal(whole[y : y + height, x : x + width], part) for y, x in places)


def _most_varied(part: Picture) -> tuple[int, int]:
    """Find the run of pixels that varies most, which occurs in few places."""
    columns = part.shape[1] // _ANCHOR_PX
    runs = part[:, : columns * _ANCHOR_PX].reshape(part.shape[0], columns, -1)
    row, run = np.unravel_index(int(runs.astype(np.float32).std(axis=2).argmax()), (part.shape[0], columns))
    return int(row), int(run) * _ANCHOR_PX


def _found(anchor: Picture, whole: Picture) -> Iterator[tuple[int, int]]:
    content, wanted, width = whole.tobytes(), anchor.tobytes(), whole.shape[1]
    at = content.find(wanted)
    while at >= 0:
        if at % 3 == 0:
            yield divmod(at // 3, width)
        at = content.find(wanted, at + 1)


def _slide_files(recipe: Recipe) -> dict[str, Path]:
    rules = recipe.slides
    if not rules.folders:
        return {}
    try:
        return {
            slide_id(path): path for path in find_slides(rules.folders, include=rules.include, exclude=rules.exclude)
        }
    except SlideError:
        return {}  # reported by the training


def _is_of(crop: LabelledCrop, slides: Mapping[str, Path]) -> bool:
    """Return whether the slide of that name shows the same content as the crop at its region."""
    origin, path = read_original(crop.folder, crop.crop).origin, slides.get(crop.slide)
    if path is None:
        return False
    picture = crop.picture()
    try:
        with open_slide(path) as slide:
            size = slide.levels[0].size
            whole = Region(0, 0, size.width, size.height)
            region = whole if origin is None or origin.region is None else origin.region
            seen = read_at(slide, region, Size(crop.width, crop.height))
    except SlideError:
        return False  # reported by the training
    return float(np.abs(seen.astype(np.int16) - picture).mean()) < _ALIKE
