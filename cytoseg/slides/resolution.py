"""Downsample factor from a slide's pixels to the recipe's mpp."""

from cytoseg.errors import SlideError
from cytoseg.slides.slide import Slide


def downsample_to(mpp: float | None, slide: Slide, *, assume_mpp: float | None = None) -> float:
    """Compute how many level-0 pixels one pixel at the recipe's mpp spans (kept out of crops.py, which loads MONAI).

    Args:
        mpp: Requested micrometres per pixel, or None for level 0.
        slide: An open slide.
        assume_mpp: Micrometres per level-0 pixel of a slide that does not state it.

    Raises:
        SlideError: If the recipe gives an mpp and the slide does not state its own, which is never guessed.
    """
    if mpp is None:
        return 1.0
    found = slide.mpp or assume_mpp
    if found is None:
        raise SlideError(
            f"{slide.path.name}: does not state its micrometres per pixel, but the recipe requires {mpp}. "
            "Set slides.assume_mpp to the scanner's value, or slides.mpp=null to use pixels as they are."
        )
    return mpp / found
