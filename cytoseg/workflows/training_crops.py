"""Random training crops of a recipe's slides."""

from collections.abc import Callable

from torch import Tensor
from torch.utils.data import Dataset

from cytoseg.diffusion.settings import TrainSettings
from cytoseg.recipe import Recipe
from cytoseg.slides.crops import RandSlideCropd, SlideCrops, augmentation
from cytoseg.workflows.recipe_slides import say_lost, tissue_sources
from cytoseg.workflows.recorded_command import say


def tissue_crops(recipe: Recipe) -> RandSlideCropd:
    """Open the recipe's slides, find their tissue, and return the transform that draws random tissue crops.

    Raises:
        SlideError: If slides are missing, damaged or too small.
    """
    skip = say_lost if recipe.slides.unreadable == "skip" else None
    found = tissue_sources(recipe)
    say(f"{len(found.sources)} of {found.slides} slides contain cells.")
    return RandSlideCropd(["image"], sources=found.sources, size_px=recipe.crops.size_px, on_lost=skip)


def training_crops(
    recipe: Recipe, crop: RandSlideCropd, *, last: int | None = None
) -> Callable[[int], Dataset[Tensor]]:
    """Return a function from a first number to the recipe's augmented crops.

    Args:
        recipe: The recipe, with augmentation, length and seed.
        crop: From ``tissue_crops``; to be closed by the caller.
        last: Number after the last crop; None for the length of the diffusion training.
    """
    steps, end = augmentation(recipe.crops), recipe.training.crops if last is None else last
    return lambda first: SlideCrops([crop, *steps], seed=recipe.training.seed, first=first, last=end)


def settings_of(recipe: Recipe) -> TrainSettings:
    """Return the training settings of a recipe."""
    return TrainSettings(**vars(recipe.training), size_px=recipe.crops.size_px)
