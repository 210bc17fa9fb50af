"""Proposals: predicted class maps as labelme files to correct.

A proposal contains the hash of its own bytes as written. labelme keeps the key, and whatever it saves has different
bytes.
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
from cytoseg.labels.exported_shapes import LABELME_VERSION, labelme_shape, traced

TOLERANCE_PX = 0.75
"""How far a corner may move: removes pixel staircases and changes 6 % of the pixels of a 9 px nucleus."""
MIN_PX = 16
"""Smaller parts are dropped, so that specks need not be deleted one by one."""
SEAL = "cytoseg_proposal"
"""Key of the hash; labelme keeps it on saving."""
_BLANK = 64 * "0"


def sealed(content: dict[str, Any]) -> str:
    """Serialise a labelme file so that ``is_saved`` can detect a later save."""
    text = json.dumps({SEAL: _BLANK, **content}, indent=1, ensure_ascii=False)
    return text.replace(_BLANK, hashlib.sha256(text.encode()).hexdigest(), 1)


def is_saved(path: Path) -> bool | None:
    """Return whether a proposal has been saved since it was written; None if the file is not a proposal.

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
    """Convert a class map to the content of a labelme file.

    Args:
        class_map: (H, W) uint8 ids, 255 for ignore.
        classes: Names of the ids; the fill class is left unmarked.
        picture: File name of the crop, in the same folder as the proposal.

    Returns:
        The content; larger shapes first, so that a nucleus is drawn over its cell.
    """
    size = Size(class_map.shape[1], class_map.shape[0])
    shapes = [shape for shape in traced(class_map, classes) if _area(shape) >= MIN_PX]
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
    """Drop unimportant corners and tiny holes."""
    holes = tuple(_ring(hole) for hole in shape.holes if _ring_area(hole) >= MIN_PX)
    return Shape(shape.label, "polygon", _ring(shape.points), holes=holes)


def _ring(ring: Points) -> Points:
    closed = np.array([*ring, ring[0]])
    # Imported on first use: it loads scipy.signal, which takes a second.
    kept = measure.approximate_polygon(closed, TOLERANCE_PX)[:-1]
    return tuple((float(x), float(y)) for x, y in (kept if len(kept) >= 3 else closed[:-1]))
