"""Cutting labelled crops from synthetic slides as PNG and labelme JSON."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage import measure

from cytoseg.errors import SlideError
from cytoseg.geometry import Region, Size
from cytoseg.slides.open import open_slide, slide_id
from cytoseg.slides.slide import Slide
from cytoseg.synthetic.generate import CLASS_NAMES, labels_path
from cytoseg.writing import temporary_beside

LABELME_VERSION = "5.5.0"
MIN_TISSUE = 0.2
"""Minimum fraction of a crop covered by cells."""


def generate_labelled_crops(slide: Path, folder: Path, *, n: int, side_px: int = 256, seed: int = 0) -> list[Path]:
    """Cut crops with cells from a synthetic slide, with exact labels as labelme polygons.

    Args:
        slide: From ``generate_slide``, with its label map beside it.
        folder: Output folder for ``<slide>_<x>_<y>.png`` and ``.json`` per crop; created if missing.
        n: Number of crops, without overlap.
        side_px: Width and height of a crop in level-0 pixels.
        seed: Seed of the choice.

    Returns:
        The JSON files.

    Raises:
        SlideError: If the slide or its label map is missing, or too few places have cells.
    """
    labels = labels_path(slide)
    if not labels.is_file():
        raise SlideError(f"{slide}: its label map {labels.name} is missing. Generate the slide again.")
    with open_slide(slide) as picture, open_slide(labels) as truth, temporary_beside(folder / slide_id(slide)) as part:
        regions = _choose(truth, n=n, side_px=side_px, seed=seed)
        if len(regions) < n:
            raise SlideError(
                f"{slide}: only {len(regions)} of {n} crops of {side_px} px show cells. "
                "Use fewer or smaller crops, or generate a larger slide."
            )
        names = [_write(part, slide_id(slide), picture, truth, region=region) for region in regions]
        for name in names:
            os.replace(part / f"{name}.png", folder / f"{name}.png")
            os.replace(part / f"{name}.json", folder / f"{name}.json")
    return [folder / f"{name}.json" for name in names]


def trace(labels: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Trace a label map as labelme polygons that reproduce it exactly when painted in order.

    Every component of an id becomes a polygon without holes, larger ones first, so that holes are painted over. Corners
    lie half-way between pixel centres, so no centre lies on an outline.

    Args:
        labels: (H, W) uint8 ids as in ``CLASS_NAMES``; unpainted pixels are background.

    Returns:
        labelme shapes; points are (x, y) with (0, 0) at the corner of the first pixel.
    """
    canvas = np.zeros_like(labels)
    shapes = []
    for _, window, filled, class_id in sorted(_patches(labels), key=lambda patch: -patch[0]):
        # Background needs polygons only in holes.
        if (canvas[window][filled] == class_id).all():
            continue
        canvas[window][filled] = class_id
        shapes.append(_shape(CLASS_NAMES[class_id], _outline(filled), window))
    return shapes


def _choose(truth: Slide, *, n: int, side_px: int, seed: int) -> list[Region]:
    """Visit grid positions in random order and keep the first n with cells and nuclei."""
    size: Size = truth.levels[0].size
    rng = np.random.default_rng([seed, 6])
    left, top = (int(rng.integers(0, length % side_px + 1)) for length in (size.width, size.height))
    places = [(x, y) for y in range(top, size.height, side_px) for x in range(left, size.width, side_px)]
    chosen: list[Region] = []
    for index in rng.permutation(len(places)):
        x, y = places[index]
        if len(chosen) == n or x + side_px > size.width or y + side_px > size.height:
            continue
        region = Region(x, y, side_px, side_px)
        ids = _ids(truth, region)
        if (ids > 0).mean() >= MIN_TISSUE and (ids == CLASS_NAMES.index("nucleus")).any():
            chosen.append(region)
    return chosen


def _ids(truth: Slide, region: Region) -> NDArray[np.uint8]:
    """Read a region of the label map, which a slide reader returns as grey RGB."""
    return np.ascontiguousarray(truth.read_region(region)[..., 0])


def _write(folder: Path, slide: str, picture: Slide, truth: Slide, *, region: Region) -> str:
    """Write the PNG and the JSON of one crop and return their stem."""
    name = f"{slide}_{region.x}_{region.y}"
    Image.fromarray(picture.read_region(region)).save(folder / f"{name}.png")
    annotation = {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": trace(_ids(truth, region)),
        "imagePath": f"{name}.png",
        "imageData": None,
        "imageHeight": region.height,
        "imageWidth": region.width,
        "cytoseg": {"slide": slide, "region": region.as_json()},
    }
    (folder / f"{name}.json").write_text(json.dumps(annotation), encoding="utf-8")
    return name


Patch = tuple[int, tuple[slice, slice], NDArray[np.bool_], int]
"""Area with holes filled, position in the label map, filled mask, class id."""


def _patches(labels: NDArray[np.uint8]) -> Iterator[Patch]:
    """Find the 4-connected components of every id."""
    for class_id in np.unique(labels):
        numbered, _ = ndimage.label(labels == class_id)
        for number, window in enumerate(ndimage.find_objects(numbered), start=1):
            # A cavity open at a corner is not a hole: the outline runs through that corner.
            filled = ndimage.binary_fill_holes(numbered[window] == number, np.ones((3, 3), bool))
            yield int(filled.sum()), window, filled, int(class_id)


def _outline(filled: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Trace a component without holes: (n, 2) points (x, y), with pixel corners cut."""
    (contour,) = measure.find_contours(np.pad(filled, 1).astype(np.float32), 0.5)
    # The margin shifts indices by one, and pixel centres are half a pixel from corners.
    points = contour[:-1, ::-1] - 0.5
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns: NDArray[np.bool_] = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    corners: NDArray[np.float64] = points[turns]
    return corners


def _shape(label: str, points: NDArray[np.float64], window: tuple[slice, slice]) -> dict[str, Any]:
    return {
        "label": label,
        "points": (points + np.array([window[1].start, window[0].start])).tolist(),
        "group_id": None,
        "description": "",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
    }
