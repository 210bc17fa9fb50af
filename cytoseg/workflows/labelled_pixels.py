"""Labelled pixels for training interpreters: draw, memory, usage."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cytoseg.features.extract import check_finite
from cytoseg.features.pixel_rows import MemoryLimits, row_blocks
from cytoseg.features.pixel_table import PixelDraw, PixelTable
from cytoseg.interpreter.memory import training_bytes
from cytoseg.interpreter.settings import EnsembleSettings
from cytoseg.labels.index import LabelledCrop
from cytoseg.recipe import Recipe


def ensemble_settings(recipe: Recipe, seed: int) -> EnsembleSettings:
    """Return the ensemble settings of a recipe."""
    return EnsembleSettings(**vars(recipe.interpreter), seed=seed)


def pixel_draw(recipe: Recipe, seed: int) -> PixelDraw:
    """Return a recipe's pixel draw; the published rules take all labelled pixels."""
    if recipe.interpreter.mode == "reference":
        return PixelDraw(sys.maxsize, "none", seed)
    return PixelDraw(recipe.interpreter.pixels_per_crop, recipe.interpreter.balance, seed)


def memory_limits(recipe: Recipe, folder: Path, *, device: torch.device) -> MemoryLimits:
    """Return the memory limits of training.

    Args:
        recipe: The recipe, with the limit and the ensemble settings.
        folder: Folder for features that do not fit in memory.
        device: Training device.
    """
    settings, classes = ensemble_settings(recipe, recipe.training.seed), len(recipe.class_list())

    def training(pixels: int, inputs: int) -> int:
        return training_bytes(settings, pixels=pixels, inputs=inputs, classes=classes, device=device)

    return MemoryLimits(folder, recipe.features.memory_gb, training, f"{settings.members} interpreters")


@dataclass(frozen=True)
class LabelledCrops:
    """The crops, read from disk at each access."""

    crops: tuple[LabelledCrop, ...]

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, number: int, /) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return self.crops[number].picture(), self.crops[number].label_map()


def check_rows(table: PixelTable, names: Sequence[str]) -> None:
    """Refuse NaN or infinite features before training on them.

    Args:
        table: The chosen pixels.
        names: Crop names for messages.

    Raises:
        CheckpointError: If one is NaN or infinite.
    """
    first = 0
    for block in row_blocks(table.features):
        crops = table.crops[first : first + len(block)]
        for number in sorted(set(crops.tolist())):
            check_finite(block[crops == number], crop=names[number])
        first += len(block)


def pixels_used(table: PixelTable, names: tuple[str, ...], *, peak_mb: float | None) -> dict[str, Any]:
    """Summarise the pixels and memory of a training.

    Args:
        table: Its pixel table.
        names: Class names by id.
        peak_mb: Peak memory of the process in MB, or None if unknown.

    Returns:
        ``pixels_used`` and ``pixels_labelled``, each by class; ``table``, ``memory`` or ``disk``; ``table_gb`` and
        ``peak_memory_gb``.
    """
    used = table.classes.bincount(minlength=len(names)).tolist()
    labelled = {name: table.counts.get(i, 0) for i, name in enumerate(names)}
    return {
        "pixels_used": dict(zip(names, used, strict=True)),
        "pixels_labelled": labelled,
        "table": "memory" if isinstance(table.features, torch.Tensor) else "disk",
        "table_gb": round(2 * table.features.shape[0] * table.features.shape[1] / 1e9, 3),
        "peak_memory_gb": None if peak_mb is None else peak_mb / 1000,
    }


def used_sentence(used: dict[str, Any]) -> str:
    """Format the result of ``pixels_used`` for the user."""
    pixels = [f"{name} {n:,} of {used['pixels_labelled'][name]:,}" for name, n in used["pixels_used"].items()]
    place = {"memory": "in memory", "disk": "on disk"}[used["table"]]
    peak = "" if used["peak_memory_gb"] is None else f"; peak memory {used['peak_memory_gb']:.1f} GB"
    table = f"{used['table_gb']:.1f} GB" if used["table_gb"] >= 1 else f"{1000 * used['table_gb']:.0f} MB"
    return f"Pixels used of those labelled: {', '.join(pixels)}. Features {place}, {table}{peak}."
