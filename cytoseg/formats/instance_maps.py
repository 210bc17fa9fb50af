"""Instance maps: images with one id per object and 0 elsewhere."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.errors import LabelError, SlideError
from cytoseg.formats.mask_pairs import MaskPair, find_pairs, has_folder
from cytoseg.formats.upright import read_upright

FOLDERS = ("instances", "masks")
"""Folders of instance maps beside ``images``; the second only if the first does not exist."""


def find_instance_maps(folder: Path, problems: list[str]) -> list[MaskPair]:
    """Look for ``images/`` beside ``instances/``, or else beside ``masks/``, in a folder tree.

    Args:
        folder: Where to look; hidden folders are skipped.
        problems: One sentence is added per image or map without its partner.

    Returns:
        The pairs, sorted by path.

    Raises:
        LabelError: If there is nothing to import.
    """
    named = next((name for name in FOLDERS if has_folder(folder, name)), None)
    if not folder.is_dir() or named is None:
        raise LabelError(f"{folder}: holds no images/ beside instances/ (or masks/). Name the folder that does.")
    pairs = find_pairs(folder, problems, named=named)
    if not pairs and not problems:
        raise LabelError(f"{folder}: its {named}/ and images/ are empty. Name the folder that holds the maps.")
    return pairs


def read_instance_map(
    pair: MaskPair, problems: list[str], *, unsure: list[str]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], int] | None:
    """Read an image and the mask of its objects.

    Touching objects become one area: no border is drawn between them, because border pixels belong to the class as
    well. The recipe's ``objects.split`` separates touching objects in predictions.

    Args:
        pair: The two files.
        problems: One sentence is added per problem.
        unsure: See `read_upright`.

    Returns:
        (H, W, 3) uint8 RGB, (H, W) bool object mask, and the number of ids; None if a problem was added.
    """
    try:
        picture, ids = read_upright(pair.picture, pair.mask, name=pair.name, unsure=unsure)
        if ids.shape != picture.shape[:2]:
            sizes = [f"{shape[1]}x{shape[0]}" for shape in (ids.shape, picture.shape)]
            raise LabelError(f"{pair.name}: the map is {sizes[0]}, but the image {sizes[1]}. Make them the same size.")
        found = np.unique(ids)
        if found[0] < 0:
            raise LabelError(f"{pair.name}: holds the negative id {found[0]}. Objects have ids from 1, the rest is 0.")
    except (LabelError, SlideError) as error:
        problems.append(str(error))
        return None
    return picture, ids > 0, int(np.count_nonzero(found))
