"""Random crops for the app's page Annotate."""

import contextlib
import threading
from functools import cached_property
from pathlib import Path

from cytoseg.errors import SlideError
from cytoseg.formats.sidecar import SIDECAR_SUFFIX
from cytoseg.geometry import Region
from cytoseg.labels.annotated import annotated_regions, waiting_regions
from cytoseg.slides.crops import RandSlideCropd
from cytoseg.slides.open import find_slides, slide_id
from cytoseg.workflows.annotating import FOLDERS, RANDOM_CROPS, Annotating
from cytoseg.workflows.random_places import choose_place, write_place
from cytoseg.workflows.training_crops import tissue_crops

_TRIES = 40
"""Random places tried before giving up."""


class RandomAnnotationCrops:
    """Random crops of a run's training slides, cut one after the other.

    Args:
        annotating: The run.
    """

    def __init__(self, annotating: Annotating) -> None:
        self._run, self._labels, self._recipe = annotating.run, annotating.labels, annotating.recipe
        self._annotating = annotating
        self._cutting = threading.Lock()

    def cut(self) -> Path:
        """Cut the next random crop of a training slide.

        Returns:
            Its PNG file.

        Raises:
            CytosegError: If no place is left, or a slide cannot be read.
        """
        folder = self._run / RANDOM_CROPS
        with self._cutting, contextlib.closing(self._tissue.fitted(self._recipe.labels.crop_px)) as crop:
            is_test, taken = self._annotating.match_test_slides(), self._taken()
            first = len(list(folder.glob(f"[!.]*{SIDECAR_SUFFIX}")))
            for number in range(first, first + _TRIES):
                place = choose_place(crop, number, seed=self._recipe.training.seed, taken=taken)
                if place is None or is_test(slide_id(place.slide)):
                    continue
                path = folder / f"{slide_id(place.slide)}_{place.region.x}_{place.region.y}.png"
                if not path.exists() and write_place(place, self._recipe, folder, guess=None):
                    return path
        raise SlideError(
            f"No new crop: {_TRIES} random places held glass, or lay on test slides or on other crops. Draw a crop on "
            "the page Slides, or add slides."
        )

    def _taken(self) -> list[tuple[Path, Region]]:
        """List annotated and waiting regions by slide path."""
        by_slide = [annotated_regions(self._labels), *(waiting_regions(self._run / folder) for folder in FOLDERS)]
        slides = self._recipe.slides
        paths = {slide_id(path): path for path in find_slides(slides.folders, slides.include, slides.exclude)}
        return [
            (paths[slide], region)
            for found in by_slide
            for slide, regions in found.items()
            if slide in paths
            for region in regions
        ]

    @cached_property
    def _tissue(self) -> RandSlideCropd:
        """Return the tissue masks of all slides, without keeping slides open."""
        return tissue_crops(self._recipe)
