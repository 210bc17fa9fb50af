"""Training a run's SegDiff, with resuming."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from cytoseg.interpreter.segdiff import SegDiff
from cytoseg.interpreter.segdiff_train import train_segdiff
from cytoseg.interpreter.settings import SegdiffSettings
from cytoseg.interpreter.tune_state import Resume
from cytoseg.labels.index import LabelledCrop
from cytoseg.recipe import Recipe
from cytoseg.terminal import progress, say
from cytoseg.workflows.memory_ceiling import refuse_unmeasured_memory
from cytoseg.workflows.recorded_command import Run
from cytoseg.workflows.step_log import StepLog
from cytoseg.workflows.tune_decoder import read_labelled

_MEMORY = "segdiff.batch or segdiff.size_px"


def train_run_segdiff(
    train: Sequence[LabelledCrop], current: Run, *, origin: Mapping[str, Any], device: torch.device
) -> SegDiff:
    """Train SegDiff on the train crops, resuming an interrupted training.

    Args:
        train: The crops.
        current: The run; losses and the state for resuming go into its interpreter/.
        origin: Everything that determines the result.
        device: Where to compute.

    Raises:
        LabelError: If no pixel is labelled.
        CheckpointError: If the loss is not finite, or the state cannot be written.
        RecipeError: If it exceeds the recipe's memory limit, or the system does not report memory.
    """
    recipe, folder = current.recipe, current.folder / "interpreter"
    refuse_unmeasured_memory(recipe)
    settings = segdiff_settings(recipe, recipe.training.seed)
    with (
        progress("segdiff", settings.steps) as bar,
        contextlib.closing(StepLog(recipe, folder / "metrics.jsonl", bar, lower=_MEMORY)) as log,
    ):
        found = train_segdiff(
            new_segdiff(len(recipe.class_list()), settings),
            read_labelled(train),
            settings=settings,
            device=device,
            resume=Resume(folder / "unfinished", origin),
            on_step=log.add,
        )
    say(f"SegDiff trained; {settings.votes} draws of {settings.draw_steps} steps vote on each tile.")
    return found


def segdiff_settings(recipe: Recipe, seed: int) -> SegdiffSettings:
    """Return the settings of a recipe."""
    return SegdiffSettings(**vars(recipe.segdiff), seed=seed, precision=recipe.training.precision)


def new_segdiff(classes: int, settings: SegdiffSettings) -> SegDiff:
    """Make an untrained model of a recipe's settings."""
    return SegDiff(classes, seed=settings.seed, votes=settings.votes, draw_steps=settings.draw_steps)
