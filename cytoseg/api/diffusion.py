"""API: training the diffusion model."""

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path

from cytoseg.api.arguments import as_overrides, as_path
from cytoseg.commands import train_ddpm
from cytoseg.errors import RecipeError
from cytoseg.recipe import load_recipe
from cytoseg.torch_defaults import torch_defaults


@torch_defaults()
def train_diffusion(recipe: str | PathLike[str], *, overrides: Sequence[str] = (), resume: bool = False) -> Path:
    """Train the diffusion model of a recipe, like ``cytoseg train-ddpm``.

    Args:
        recipe: A recipe file, or the name of a shipped recipe.
        overrides: ``section.key=value``, such as ``training.crops=20000``.
        resume: Continue from the newest checkpoint.

    Returns:
        The checkpoint folder, for ``PixelClassifier(backbone=...)``.

    Raises:
        RecipeError: If the recipe or an override is wrong.
        SlideError: If slides are missing, damaged or too small.
        CheckpointError: If there are checkpoints already and ``resume`` is not set, or one cannot be written.
    """
    name, values = fspath(as_path(recipe, error=RecipeError)), as_overrides(overrides)
    train_ddpm.run(name, values, resume=resume)
    return load_recipe(name, values).run_folder() / "ddpm"
