"""Random unlabelled tissue crops, without test slides."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from cytoseg.errors import RecipeError
from cytoseg.interpreter.mean_teacher import Unlabelled
from cytoseg.patterns import fits
from cytoseg.recipe import Recipe
from cytoseg.slides.crops import RandSlideCropd, SlideCrops, augmentation
from cytoseg.slides.open import slide_id
from cytoseg.slides.settings import CropsSection
from cytoseg.workflows.crop_split import split_of
from cytoseg.workflows.recipe_slides import say_lost, slide_files, tissue_sources

_ENDLESS = 2**31
"""Number of available crops, enough for any tuning."""


@contextlib.contextmanager
def unlabelled_slides(recipe: Recipe) -> Iterator[Unlabelled | None]:
    """Open the recipe's slides for tuning a decoder, and close them afterwards.

    Yields:
        Crops of ``decoder.size_px`` and their weight, or None if ``decoder.unlabelled`` is 0.

    Raises:
        RecipeError: If all slides are test slides.
        SlideError: If slides are missing, damaged or too small.
    """
    if not recipe.decoder.unlabelled:
        yield None
        return
    with unlabelled_crops(recipe, size_px=recipe.decoder.size_px) as crop:
        if crop is None:
            raise RecipeError("decoder.unlabelled: slides.folders names no slides. Name some, or set it to 0.")
        yield Unlabelled(crop, recipe.decoder.unlabelled)


def unlabelled_inputs(recipe: Recipe) -> dict[str, Any]:
    """Return what determines the unlabelled crops of a recipe: its slides, as files, and which are test slides.

    The size of the training crops is part of it: their centres are drawn on slides that hold one.
    """
    slides = {**recipe.section("slides"), "files": slide_files(recipe), "crops_px": recipe.crops.size_px}
    return {**slides, "test_slides": list(recipe.labels.test_slides)}


@contextlib.contextmanager
def unlabelled_crops(recipe: Recipe, *, size_px: int) -> Iterator[Callable[[int], Tensor] | None]:
    """Open the recipe's slides except test slides, and close them afterwards.

    Args:
        recipe: The recipe, with slides, test slides and seed.
        size_px: Side of a crop.

    Yields:
        A function from i to crop i, (3, size, size) float32 in [-1, 1]; None if the recipe has no slides.

    Raises:
        RecipeError: If all slides are test slides.
        SlideError: If slides are missing, damaged or too small.
    """
    if not recipe.slides.folders:
        yield None
        return
    patterns = {crop.slide for crop in split_of(recipe).test} | set(recipe.labels.test_slides)
    found = tissue_sources(recipe).sources
    sources = [s for s in found if not fits(slide_id(s.path), patterns)]
    if not sources:
        raise RecipeError(
            f"slides.folders: all {len(found)} slides are test slides, so none is left for unlabelled training. "
            "Name others, or set decoder.unlabelled and student.crops to 0."
        )
    lost = say_lost if recipe.slides.unreadable == "skip" else None
    drawn = RandSlideCropd(["image"], sources=sources, size_px=recipe.crops.size_px, on_lost=lost)
    steps = augmentation(CropsSection(flips=True, turns=True, jitter=0.0))
    with contextlib.closing(drawn), contextlib.closing(drawn.of_size(size_px)) as crop:
        crops = SlideCrops([crop, *steps], seed=recipe.training.seed, first=0, last=_ENDLESS)
        yield crops.__getitem__
