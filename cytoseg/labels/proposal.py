"""A predicted class map as shapes that a person can correct in labelme.

The file says itself that it is a proposal: it holds the hash of its own bytes as they were written. labelme keeps the
key, and whatever it saves has other bytes.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import measure

from cytoseg.classes import ClassList
from cytoseg.formats.annotation import Shape
from cytoseg.formats.json_files import Points
from cytoseg.geometry import Size
from cytoseg.labels.map_shapes import LABELME_VERSION, labelme_shape, traced

TOLERANCE_PX = 0.75
"""How far a corner may move: the steps of the pixels' edges go, and 6 % of the pixels of a nucleus of 9 px change."""
LEAST_PX = 16
"""Smaller parts are left out: nobody wants to delete specks one by one."""
SEAL = "cytoseg_proposal"
"""Key of the hash; whoever saves the file anew keeps it."""
_BLANK = 64 * "0"


def sealed(content: dict[str, Any]) -> str:
    """Write a labelme file of which ``is_saved`` can tell whether anybody has saved it since."""
    text = json.dumps({SEAL: _BLANK, **content}, indent=1, ensure_ascii=False)
    return text.replace(_BLANK, hashlib.sha256(text.encode()).hexdigest(), 1)


def is_saved(path: Path) -> bool | None:
    """Return whether somebody has saved a proposal since it was written; None if the file is not a proposal.

    Raises:
        OSError: If the file cannot be read.
    """
    data = path.read_bytes()
    found = re.search(rf'"{SEAL}": "([0-9a-f]{{64}})"'.encode(), data)
    if found is None:
        return None
    blank = data.replace(found[1], _BLANK.encode(), 1)
    return hashlib.sha256(blank).hexdigest().encode() != found[1]


def proposal(class_map: NDArray[np.uint8], classes: ClassList, *, picture: str) -> dict[str, Any]:
    """Write a class map as the content of a labelme file.

    Args:
        class_map: (H, W) uint8 ids, 255 for ignore.
        classes: Names of the ids; the fill class is what is left unmarked.
        picture: File name of the crop, beside which the file will lie.

    Returns:
        The content; larger shapes first, so that a nucleus lies upon its cell.
    """
    size = Size(class_map.shape[1], class_map.shape[0])
    shapes = [shape for shape in traced(class_map, classes) if _area(shape) >= LEAST_PX]
    simple = [_simplified(shape) for shape in sorted(shapes, key=_area, reverse=True)]
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": [labelme_shape(shape) for shape in simple],
        "imagePath": picture,
        "imageData": None,
        "imageHeight": size.height,
        "imageWidth": size.width,
    }


def _area(shape: Shape) -> float:
    return _ring_area(shape.points) - sum(map(_ring_area, shape.holes))


def _ring_area(ring: Points) -> float:
    x, y = np.array(ring).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _simplified(shape: Shape) -> Shape:
    """Leave out the corners that say little, and the holes that are specks."""
    holes = tuple(_ring(hole) for hole in shape.holes if _ring_area(hole) >= LEAST_PX)
    return Shape(shape.label, "polygon", _ring(shape.points), holes=holes)


def _ring(ring: Points) -> Points:
    closed = np.array([*ring, ring[0]])
    # Loaded by its first use: with it comes scipy.signal, which takes a second.
    kept = measure.approximate_polygon(closed, TOLERANCE_PX)[:-1]
    return tuple((float(x), float(y)) for x, y in (kept if len(kept) >= 3 else closed[:-1]))
