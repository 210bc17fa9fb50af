"""The small images that an up-sampling model enlarges: drawn by another run, or real crops made smaller."""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cytoseg.checkpoints import find_checkpoints, is_checkpoint
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.channels import as_channels
from cytoseg.diffusion.state import load_backbone, recipe_of_newest
from cytoseg.diffusion.upsampling import UpsamplingInputs, shrink, upsampling_input
from cytoseg.errors import CheckpointError, RecipeError
from cytoseg.recipe import Recipe
from cytoseg.recipe.upsampling import small_run_folder
from cytoseg.seeds import generator_for
from cytoseg.slides.crops import SlideCrops, augmentation
from cytoseg.workflows.backbone import refuse_without_denoising
from cytoseg.workflows.recipe_slides import slide_files
from cytoseg.workflows.training_crops import tissue_crops

SmallKind = Literal["run", "crops"]
DRAWN_NOISE = 0.1
"""Standard deviation of the noise on drawn small images; real ones have none."""
_FAR = 2**30
"""Number of the first crop that no training has seen."""


@dataclass(frozen=True)
class SmallImageModel:
    """The model that draws small images.

    Attributes:
        unet: Its network.
        architecture: Its architecture.
        size_px: Side of its images.
        sha256: Hash of its averaged weights.
    """

    unet: nn.Module
    architecture: Architecture
    size_px: int
    sha256: str


def upsampling_inputs(recipe: Recipe) -> UpsamplingInputs | None:
    """Return the source of small images for training crops; None for a model that does not enlarge.

    Raises:
        CheckpointError: If the run that ``diffusion.upsample_from`` names is missing or damaged.
        RecipeError: If its images do not fit the model that enlarges them.
    """
    network = recipe.diffusion
    if network.upsample_from is not None:
        small_image_model(recipe, network.upsample_from)
    if network.upsample == 1:
        return None
    return UpsamplingInputs(network.upsample, network.channels, recipe.training.seed)


def small_image_model(recipe: Recipe, named: Path) -> SmallImageModel:
    """Load the model that draws small images.

    Args:
        recipe: The recipe of the model that enlarges them.
        named: Its ``diffusion.upsample_from``.

    Raises:
        CheckpointError: If it is missing or damaged.
        RecipeError: If its images have other channels, size or pixel size than those that this model enlarges.
    """
    folder, where = small_run_folder(named), f"diffusion.upsample_from: {named}"
    if not is_checkpoint(folder) and not find_checkpoints(folder):
        raise CheckpointError(
            f"{where}: there is no diffusion model. Train the model of small images first (`cytoseg "
            "train-ddpm`), and name its ddpm folder."
        )
    if folder.resolve() == (recipe.run_folder() / "ddpm").resolve():
        raise RecipeError(f"{where}: this is the run itself. Name the run that draws the small images.")
    refuse_without_denoising(folder)
    unet, architecture, origin = load_backbone(folder)
    size = _fitting_size(recipe, architecture, recipe_of_newest(folder), where)
    return SmallImageModel(unet, architecture, size, str(origin["sha256"]))


def _fitting_size(recipe: Recipe, found: Architecture, theirs: dict[str, Any], where: str) -> int:
    """Return the side of the small images.

    Raises:
        RecipeError: If they do not fit the recipe's model.
    """
    try:
        side, mpp = theirs["crops"]["size_px"], theirs["slides"]["mpp"]
    except (KeyError, TypeError):
        raise RecipeError(f"{where}: does not state the size of its images. Train it with train-ddpm.") from None
    if found.upsample > 1:
        raise RecipeError(f"{where}: itself enlarges small images. Name a run that draws from noise alone.")
    network, size = recipe.diffusion, recipe.crops.size_px
    if found.channels != network.channels:
        raise RecipeError(
            f"{where}: draws images of {found.channels} channels, but diffusion.channels is {network.channels}. Use "
            "the same."
        )
    if type(side) is not int or side < 1 or size % side or size == side:
        raise RecipeError(
            f"{where}: draws images of {side} px, and crops.size_px {size} is not 2 or more times that. Change "
            "crops.size_px of one of them."
        )
    if side * network.upsample != size:
        raise RecipeError(
            f"{where}: draws images of {side} px, and diffusion.upsample {network.upsample} makes "
            f"{side * network.upsample} px of them, not the {size} of crops.size_px. Name a run of "
            f"{size // network.upsample} px."
        )
    _refuse_other_mpp(mpp, recipe, where)
    return side


def _refuse_other_mpp(mpp: Any, recipe: Recipe, where: str) -> None:
    own, factor = recipe.slides.mpp, recipe.diffusion.upsample
    if mpp is None and own is None:
        return
    wanted = None if own is None else factor * own
    if wanted is None or not isinstance(mpp, int | float) or not math.isclose(mpp, wanted, rel_tol=1e-3):
        sizes = ["null" if value is None else f"{value:g}" for value in (mpp, own, wanted)]
        raise RecipeError(
            "{}: was trained at slides.mpp {}, and this recipe has {}, so images {} times smaller need {}. "
            "Train it at that pixel size.".format(where, *sizes[:2], factor, sizes[2])
        )


@contextlib.contextmanager
def reduced_real_crops(recipe: Recipe, seed: int) -> Iterator[tuple[str, Callable[[Sequence[int]], Tensor]]]:
    """Open the slides, and yield a hash of all that determines small crops, and a function from their numbers to them.

    Args:
        recipe: The recipe of the model that enlarges them.
        seed: Crop i is a function of (seed, i); the training has not seen it.

    Raises:
        SlideError: If slides are missing or damaged.
    """
    network = recipe.diffusion
    with contextlib.closing(tissue_crops(recipe)) as crop:
        steps: list[Callable[..., Any]] = [crop, *augmentation(recipe.crops)]

        def cut(numbers: Sequence[int]) -> Tensor:
            crops = SlideCrops(steps, seed=seed, first=_FAR, last=_FAR + max(numbers) + 1)
            whole = torch.stack([crops[number] for number in numbers])
            return shrink(as_channels(whole, network.channels), network.upsample)

        decides = [crop.digest(), slide_files(recipe), recipe.section("crops"), network.channels, network.upsample]
        yield hashlib.sha256(json.dumps(decides).encode()).hexdigest(), cut


def sample_inputs(numbers: Sequence[int], small: Tensor, recipe: Recipe, *, seed: int, drawn: bool) -> Tensor:
    """Prepare small images for the model that enlarges them.

    Args:
        numbers: N sample numbers.
        small: (N, C, h, w) in [-1, 1].
        recipe: The recipe of the model.
        seed: With its number it determines the noise on an image.
        drawn: Whether another model drew them; real ones get no noise.

    Returns:
        (N, C + 1, H, W), see ``upsampling_input``.
    """
    noise = torch.stack(
        [torch.randn(small.shape[1:], generator=generator_for(seed, i, what="small sample")) for i in numbers]
    )
    deviations = torch.full((len(numbers),), DRAWN_NOISE if drawn else 0.0)
    return upsampling_input(small, recipe.diffusion.upsample, noise=noise, deviations=deviations)
