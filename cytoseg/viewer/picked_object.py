"""The object under a place of a predicted slide, and its image."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.geometry import Region, Size
from cytoseg.maps.raster import Raster
from cytoseg.objects.find_objects import INSTANCES
from cytoseg.slides.open import open_slide, read_at

PICTURE_PX = 240
_EDGE = (255, 214, 0)


def object_at(prediction: Path, slide: Size, x: int, y: int) -> int:
    """Return the id of the object at a place.

    Args:
        prediction: Folder of the slide's prediction.
        slide: Size of level 0.
        x: In level-0 pixels.
        y: The same.

    Returns:
        Its id as in cells.csv; 0 beside all objects, beyond the slide, and if objects were not searched for.

    Raises:
        SlideError: If the map of objects is damaged.
    """
    found = _ids(prediction, slide, Region(x, y, 1, 1), 1)
    return 0 if found is None else int(found[0, 0])


def object_picture(path: Path, prediction: Path, number: int, region: Region) -> NDArray[np.uint8]:
    """Read the image of an object, with its edge drawn.

    Args:
        path: The slide.
        prediction: Folder of its prediction.
        number: Id of the object.
        region: A square around it in level-0 pixels.

    Returns:
        (PICTURE_PX, PICTURE_PX, 3) uint8 RGB.

    Raises:
        SlideError: If the slide or the map of objects is damaged.
    """
    with open_slide(path) as slide:
        picture = read_at(slide, region, Size(PICTURE_PX, PICTURE_PX))
        ids = _ids(prediction, slide.levels[0].size, region, PICTURE_PX)
    if ids is not None:
        inside = np.pad(ids == number, 1)
        core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
        picture[inside[1:-1, 1:-1] & ~core] = _EDGE
    return picture


def _ids(prediction: Path, slide: Size, region: Region, side: int) -> NDArray[np.uint32] | None:
    """Sample the instance map over a square, (side, side); 0 beyond the slide, None if there is no such map."""
    path = prediction / INSTANCES
    if not path.is_file():
        return None
    raster = Raster(path, ids=True)
    try:
        size = raster.levels[0].size
        steps = (np.arange(side) + 0.5) * region.width / side
        columns = np.floor((region.x + steps) * size.width / slide.width).astype(np.int64)
        rows = np.floor((region.y + steps) * size.height / slide.height).astype(np.int64)
        down, across = (rows >= 0) & (rows < size.height), (columns >= 0) & (columns < size.width)
        found = np.zeros((side, side), np.uint32)
        if down.any() and across.any():
            found[np.ix_(down, across)] = raster.sample(rows[down], columns[across])
    finally:
        raster.close()
    return found
