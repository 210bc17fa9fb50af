"""Cutting crops at given places, with the prediction as shapes to correct."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.active_learning.candidates import Frame, map_scale
from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import LabelError, PredictionError, RecipeError
from cytoseg.formats.sidecar import Cut, write_sidecar
from cytoseg.geometry import Region, Size
from cytoseg.labels.annotated import is_taken
from cytoseg.labels.proposal_file import proposal, sealed
from cytoseg.predict.finished_maps import map_versions, open_maps
from cytoseg.predict.summary import SUMMARY_NAME, classes_of
from cytoseg.quoting import join_first
from cytoseg.slides.generated_mark import png_text, read_mark
from cytoseg.slides.open import open_slide, read_at, slide_id
from cytoseg.slides.slide import Slide
from cytoseg.writing import atomic_path, write_atomically


@dataclass(frozen=True)
class CropPlaces:
    """Places of crops on a slide.

    Attributes:
        slide: The slide.
        places: (x, y) of each crop's centre, in level-0 pixels.
        predictions: Folder of predicted slides; crops of a slide without prediction get no shapes.
    """

    slide: Path
    places: Sequence[tuple[int, int]]
    predictions: Path


@dataclass(frozen=True, eq=False)
class Maps:
    """Predicted maps of a region: (size, size) uint8 ids, and (size, size) float32 disagreement in nats."""

    ids: NDArray[np.uint8]
    nats: NDArray[np.float32]


@dataclass(frozen=True)
class Cutting:
    """Settings of crops.

    Attributes:
        frame: Size and resolution.
        classes: The class list.
    """

    frame: Frame
    classes: ClassList


def parse_place(text: str) -> tuple[int, int]:
    """Parse ``x,y``.

    Raises:
        RecipeError: If it has another form.
    """
    x, comma, y = text.partition(",")
    if not (comma and x.strip().isdecimal() and y.strip().isdecimal()):
        raise RecipeError(f"--at {text!r}: write the centre of the crop in level-0 pixels, such as 20480,11264.")
    return int(x), int(y)


def cut_chosen(chosen: CropPlaces, cutting: Cutting, folder: Path) -> tuple[int, int]:
    """Write each crop as PNG with its sidecar, and with a labelme file if the slide was predicted.

    Args:
        chosen: The places.
        cutting: Crop settings.
        folder: Output folder; possibly corrected files are never replaced.

    Returns:
        Number of new crops, and of those with shapes.

    Raises:
        SlideError: If the slide cannot be read.
        LabelError: If the slide was predicted with other classes.
        PredictionError: If its summary or maps are damaged.
    """
    new = shapes = 0
    with open_slide(chosen.slide) as slide:
        side = cutting.frame.side(slide)
        for x, y in chosen.places:
            region = Region(x - side // 2, y - side // 2, side, side)
            path = cut_region(slide, region, chosen.predictions, cutting=cutting, folder=folder)
            if path is not None:
                new, shapes = new + 1, shapes + path.with_suffix(".json").exists()
    return new, shapes


def crop_path(folder: Path, slide: Path, region: Region) -> Path:
    """Return the file of a region's crop in a folder."""
    return folder / f"{slide_id(slide)}_{region.x}_{region.y}.png"


def cut_region(slide: Slide, region: Region, predictions: Path, *, cutting: Cutting, folder: Path) -> Path | None:
    """Write the crop of a region as PNG with its sidecar, and with a labelme file if the slide was predicted.

    Args:
        slide: The open slide.
        region: Region of the crop.
        predictions: Folder of the predicted slides.
        cutting: Crop settings.
        folder: Output folder.

    Returns:
        The PNG; None if it already exists or has a saved labelme file, which are left unchanged.

    Raises:
        SlideError: If the slide cannot be read.
        LabelError: If the slide was predicted with other classes.
        PredictionError: If its summary or maps are damaged.
    """
    path = crop_path(folder, slide.path, region)
    if is_taken(path):
        return None
    size = cutting.frame.size_px
    predicted = predicted_maps(slide, region, predictions, cutting)
    _write(path, read_at(slide, region, Size(size, size)), predicted, region, cutting, slide.path)
    return path


def predicted_maps(slide: Slide, region: Region, predictions: Path, cutting: Cutting) -> Maps | None:
    """Read the prediction of a region at the pixels of a crop; None if the slide was not predicted.

    Raises:
        LabelError: If it was predicted with other classes.
        PredictionError: If its summary or maps are damaged.
    """
    done = predictions / slide_id(slide.path)
    if not (done / SUMMARY_NAME).is_file():
        return None
    versions = map_versions(done)
    try:
        found = classes_of(done)
    except PredictionError as error:
        raise PredictionError(f"{done.name}: {error}") from error
    if found != list(cutting.classes.names):
        names = join_first(found, max_parts=9, between=", ")
        raise LabelError(f"{done.name}: predicted with the classes {names}. Predict it again.")
    with open_maps(done, versions) as (ids, nats):
        at, size = region.at(map_scale(slide, ids.size)), cutting.frame.size_px
        # Nearest map pixel of each crop pixel, because ids cannot be averaged.
        rows, columns = (np.arange(size) * n // size for n in (at.height, at.width))
        sampled = np.ix_(rows, columns)
        return Maps(
            ids.read(at.x, at.y, width=at.width, height=at.height, outside=IGNORE)[sampled],
            nats.read(at.x, at.y, width=at.width, height=at.height)[sampled],
        )


def _write(
    path: Path,
    picture: NDArray[np.uint8],
    predicted: Maps | None,
    region: Region,
    cutting: Cutting,
    slide: Path,
) -> None:
    # The image is written last: files without one are leftovers of a kill or full disk, and are rewritten.
    write_sidecar(path, Cut(slide_id(slide), region, cutting.frame.slides.mpp))
    if predicted is not None:
        content = proposal(predicted.ids, cutting.classes, picture=path.name)
        write_atomically(path.with_suffix(".json"), sealed(content))
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", pnginfo=png_text(read_mark(slide)))
