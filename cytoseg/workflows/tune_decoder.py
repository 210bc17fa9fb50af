"""Tuning a run's decoder, with resuming."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from cytoseg.interpreter.decoder import Decoder
from cytoseg.interpreter.labelled_training import LabelledPictures
from cytoseg.interpreter.settings import TuneSettings
from cytoseg.interpreter.tune import steps_of, tune_decoder
from cytoseg.interpreter.tune_state import Resume
from cytoseg.labels.index import LabelledCrop
from cytoseg.memory_use import peak_memory
from cytoseg.recipe import Recipe
from cytoseg.terminal import progress, say
from cytoseg.workflows.memory_ceiling import refuse_unmeasured_memory
from cytoseg.workflows.recorded_command import Run
from cytoseg.workflows.step_log import StepLog
from cytoseg.workflows.unlabelled_crops import unlabelled_slides


def tune_run_decoder(
    unet: nn.Module,
    train: Sequence[LabelledCrop],
    current: Run,
    *,
    origin: Mapping[str, Any],
    device: torch.device,
) -> Decoder:
    """Tune the network on the train crops, resuming an interrupted tuning, and report the chosen step.

    Args:
        unet: The trained noise predictor.
        train: The crops.
        current: The run; losses and the state for resuming go into its interpreter/.
        origin: Everything that determines the result.
        device: Where to compute.

    Raises:
        LabelError: If no pixel is labelled.
        CheckpointError: If the state cannot be written.
        RecipeError: If it exceeds the recipe's memory limit, or the system does not report memory.
    """
    recipe, folder = current.recipe, current.folder / "interpreter"
    refuse_unmeasured_memory(recipe)
    names = recipe.class_list().names
    decoder = Decoder(unet, recipe.architecture(), len(names), seed=recipe.training.seed, names=names)
    labelled, settings = read_labelled(train), tune_settings(recipe, recipe.training.seed)
    steps = steps_of(labelled, settings)
    with (
        unlabelled_slides(recipe) as unlabelled,
        peak_memory() as peak,
        progress("decoder", steps) as bar,
        contextlib.closing(StepLog(recipe, folder / "metrics.jsonl", bar)) as log,
    ):
        found = tune_decoder(
            decoder,
            labelled,
            settings=settings,
            device=device,
            unlabelled=unlabelled,
            resume=Resume(folder / "unfinished", origin),
            on_step=log.add,
        )
    judges = f"chosen on slides {', '.join(found.held_out)}" if found.held_out else "no slide was held out"
    memory = "" if peak.mb is None else f" Peak memory {peak.mb / 1000:.1f} GB."
    say(f"Decoder tuned; weights of step {found.step} of {steps} ({judges}).{memory}")
    return found.decoder


def read_labelled(crops: Sequence[LabelledCrop]) -> LabelledPictures:
    """Read imported crops."""
    slides = [c.shown_slide for c in crops]
    return LabelledPictures([c.picture() for c in crops], [c.label_map() for c in crops], slides)


def tune_settings(recipe: Recipe, seed: int) -> TuneSettings:
    """Return the tuning settings of a recipe."""
    return TuneSettings(**vars(recipe.decoder), seed=seed, precision=recipe.training.precision)
