"""An image and its mask, both turned upright."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.formats.read_mask import read_mask
from cytoseg.slides.image import read_stored
from cytoseg.slides.orientation import turned


def read_upright(
    picture: Path, mask: Path, *, name: str, unsure: list[str]
) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """Read an image and its mask, which may have been drawn on the image as stored.

    Some programs turn an image as its orientation tag says, others do not know the tag. A mask that fits only the image
    as stored is turned with it.

    Args:
        picture: File of the image.
        mask: File of the mask.
        name: Name of the mask in messages.
        unsure: The name is added if the image has such a tag and the mask fits it both ways.

    Returns:
        (H, W, 3) uint8 RGB, and the mask's integers, of any size.

    Raises:
        LabelError: If the mask cannot be read.
        SlideError: If the image cannot be read.
    """
    stored, turn = read_stored(picture, name=f"{name}, image {picture.name}")
    upright, values = turned(stored, turn), read_mask(mask, name=name)
    if turn == 1:
        return upright, values
    fits_stored, fits_upright = (values.shape == pixels.shape[:2] for pixels in (stored, upright))
    if fits_stored and not fits_upright:
        return upright, turned(values, turn)
    if fits_stored == fits_upright:  # square, upside down or mirrored; or of another size, to be resized
        unsure.append(name)
    return upright, values
