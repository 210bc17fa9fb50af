"""The unlabelled slides that teach while a decoder is tuned: random tissue crops of the recipe's slides."""

import contextlib
from collections.abc import Collection, Iterator

from cytoseg.commands.tissue import say_lost, tissue_sources
from cytoseg.errors import RecipeError
from cytoseg.interpreter.mean_teacher import Unlabelled
from cytoseg.patterns import fits
from cytoseg.recipe import Recipe
from cytoseg.slides.crops import RandSlideCropd, SlideCrops, augmentation
from cytoseg.slides.open import slide_id

_ENDLESS = 2**31
"""One past the number of the last crop: as many as any tuning takes."""


@contextlib.contextmanager
def unlabelled_slides(recipe: Recipe, *, test_slides: Collection[str]) -> Iterator[Unlabelled | None]:
    """Open the recipe's slides for a tuning, and close them at its end.

    Args:
        recipe: Names the slides, the size of a part and the weight.
        test_slides: Slides of test crops, which are left out even without their labels.

    Yields:
        The slides, or None where ``decoder.unlabelled`` is 0.

    Raises:
        RecipeError: If no slide is left.
        SlideError: If slides are missing, damaged or too small.
    """
    if not recipe.decoder.unlabelled:
        yield None
        return
    patterns = {*test_slides, *recipe.labels.test_slides}
    found = tissue_sources(recipe).sources
    sources = [s for s in found if not fits(slide_id(s.path), patterns)]
    if not sources:
        raise RecipeError(
            f"decoder.unlabelled: all {len(found)} slides are test slides, so none is left to learn from. "
            "Name others in slides.folders, or set it to 0."
        )
    lost = say_lost if recipe.slides.unreadable == "skip" else None
    drawn = RandSlideCropd(["image"], sources=sources, size_px=recipe.crops.size_px, on_lost=lost)
    steps = augmentation(flips=True, turns=True, jitter=0.0)
    with contextlib.closing(drawn), contextlib.closing(drawn.of_size(recipe.decoder.size_px)) as crop:
        crops = SlideCrops([crop, *steps], seed=recipe.training.seed, first=0, last=_ENDLESS)
        yield Unlabelled(crops.__getitem__, recipe.decoder.unlabelled)
