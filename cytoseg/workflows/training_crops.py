"""Random training crops of a recipe's slides."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cytoseg.diffusion.channels import as_channels
from cytoseg.diffusion.settings import TrainSettings
from cytoseg.recipe import Recipe
from cytoseg.slides.crops import RandSlideCropd, SlideCrops, augmentation
from cytoseg.slides.tissue_sources import SlideSource
from cytoseg.terminal import say
from cytoseg.workflows.recipe_slides import say_lost, tissue_sources


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


@contextlib.contextmanager
def crops_of(recipe: Recipe, sources: Sequence[SlideSource]) -> Iterator[RandSlideCropd]:
    """Open slides for ``cut_crops``, and close them afterwards."""
    with contextlib.closing(RandSlideCropd(["image"], sources=sources, size_px=recipe.crops.size_px)) as crop:
        yield crop


def cut_crops(recipe: Recipe, crop: RandSlideCropd, *, first: int, count: int, seed: int | None = None) -> Tensor:
    """Cut crops ``first`` to ``first + count - 1``, augmented as in a training.

    Args:
        recipe: The recipe, with the channels of its network.
        crop: From ``crops_of`` or ``tissue_crops``.
        first: Number of the first crop.
        count: N.
        seed: Crop i is a function of (seed, i); None for the seed of the recipe, which gives the crops of its training.

    Returns:
        (N, C, size, size) float32 in [-1, 1].
    """
    steps, seed = augmentation(recipe.crops), recipe.training.seed if seed is None else seed
    crops = SlideCrops([crop, *steps], seed=seed, first=first, last=first + count)
    return as_channels(torch.stack([crops[i] for i in range(count)]), recipe.diffusion.channels)


def settings_of(recipe: Recipe) -> TrainSettings:
    """Return the training settings of a recipe."""
    return TrainSettings(**vars(recipe.training), size_px=recipe.crops.size_px)
