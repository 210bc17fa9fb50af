"""The recipe's memory limit during a training."""

import math

from cytoseg.errors import RecipeError
from cytoseg.features.pixel_rows import SPARE, memory_unknown
from cytoseg.memory_use import highest_bytes
from cytoseg.recipe import Recipe

DECODER_MEMORY = "decoder.batch or decoder.size_px"
"""Settings that lower the memory of tuning a decoder."""


def refuse_unmeasured_memory(recipe: Recipe) -> None:
    """Refuse a memory limit that cannot be kept.

    Raises:
        RecipeError: If the recipe has one, and the system does not report memory.
    """
    if recipe.features.memory_gb is not None and highest_bytes() is None:
        raise memory_unknown()


def check_ceiling(recipe: Recipe, *, step: int, lower: str = DECODER_MEMORY) -> None:
    """Compare this process's peak memory with the recipe's limit.

    Args:
        recipe: The recipe, with an optional limit.
        step: Step of the training, for the message.
        lower: Settings that lower the memory of the training, for the message.

    Raises:
        RecipeError: If it is exceeded.
    """
    ceiling, taken = recipe.features.memory_gb, highest_bytes()
    if ceiling is not None and taken is not None and taken > ceiling * 1e9:
        least = math.ceil(SPARE * taken / 1e8) / 10
        raise RecipeError(
            f"features.memory_gb: {ceiling:g} is too little: by step {step} the training had used "
            f"{taken / 1e9:.1f}. Use features.memory_gb={least:g}, or lower {lower}."
        )
