"""Reading the class map that an edited image should show."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import LabelError, report
from cytoseg.formats.read_mask import read_mask
from cytoseg.labels.import_settings import ImportRules, ImportState
from cytoseg.labels.read_sources import find_items, read_item
from cytoseg.slides.optical_density import optical_density

MARGIN_PX = 4
"""How far the region to draw extends beyond the change, so that an outline can be drawn."""


_SPECKS = 0.05
"""Fraction of dark pixels up to which a region is glass: noise and dust."""


def read_map(path: Path, classes: ClassList, size: tuple[int, int], *, of: str = "the image") -> NDArray[np.uint8]:
    """Read a labelme file or an image of class ids.

    Args:
        path: A labelme JSON file, or PNG, TIFF or BMP.
        classes: The class list.
        size: Height and width of the image.
        of: What has this size, for messages.

    Returns:
        (H, W) uint8 ids, 255 where the map is unlabelled.

    Raises:
        LabelError: If it cannot be read, has another size, or other classes.
    """
    ids = _read_labelme(path, classes) if path.suffix.lower() == ".json" else _read_ids(path, classes)
    if ids.shape != size:
        raise LabelError(
            f"{path.name}: the map has {ids.shape[1]}x{ids.shape[0]} px, {of} {size[1]}x{size[0]} px. "
            f"Give a map of {of}'s size."
        )
    return ids


def changed_region(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find where a map was changed, with a margin; pixels of 255 in the new map are unchanged.

    Args:
        before: (H, W) ids.
        after: (H, W) ids.
    """
    changed: NDArray[np.bool_] = (before != after) & (after != IGNORE)
    if not changed.any():
        return changed
    found: NDArray[np.bool_] = ndimage.binary_dilation(changed, iterations=MARGIN_PX)
    return found


def is_glass(picture: NDArray[np.uint8], region: NDArray[np.bool_], threshold: float) -> bool:
    """Return whether a region shows bare glass.

    Args:
        picture: (H, W, 3) uint8 RGB.
        region: (H, W), at least one pixel.
        threshold: Mean optical density above which a pixel counts as cells.
    """
    cells = optical_density(picture[region]).mean(axis=1) > threshold
    return bool(cells.mean() < _SPECKS)


def _read_labelme(path: Path, classes: ClassList) -> NDArray[np.uint8]:
    if not path.is_file():
        raise LabelError(f"{path}: there is no such file. Correct the name.")
    state = ImportState(path.parent, classes, ImportRules())
    readings = [read_item(item, state) for item in find_items(path, state)]
    unknown = [f"{path.name}: class '{name}' is not in the class list" for name in state.unknown]
    if state.problems or unknown:
        raise LabelError(report([*state.problems, *unknown], what="edit"))
    (reading,) = readings
    assert reading is not None  # otherwise there were problems
    return reading.label_map


def _read_ids(path: Path, classes: ClassList) -> NDArray[np.uint8]:
    values = read_mask(path, name=path.name)
    strange = values[(values != IGNORE) & ((values < 0) | (values >= len(classes)))]
    if strange.size:
        raise LabelError(
            f"{path.name}: holds id {strange[0]}, but there are {len(classes)} classes "
            f"({', '.join(classes.names)}), numbered from 0. Correct the map."
        )
    return values.astype(np.uint8)
