"""Tuning a run's decoder, with resuming and a memory limit."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cytoseg.errors import RecipeError
from cytoseg.features.pixel_rows import SPARE, memory_unknown
from cytoseg.interpreter.decoder import Decoder
from cytoseg.interpreter.labelled_training import LabelledPictures
from cytoseg.interpreter.settings import TuneSettings
from cytoseg.interpreter.tune import steps_of, tune_decoder
from cytoseg.interpreter.tune_state import Resume
from cytoseg.labels.index import LabelledCrop
from cytoseg.memory_use import highest_bytes, peak_memory
from cytoseg.recipe import Recipe
from cytoseg.runs import MetricsLog
from cytoseg.terminal import Bar, progress, say
from cytoseg.workflows.recorded_command import Run
from cytoseg.workflows.unlabelled_crops import unlabelled_slides

_DECODER_MEMORY = "decoder.batch or decoder.size_px"


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


def refuse_unmeasured_memory(recipe: Recipe) -> None:
    """Refuse a memory limit that cannot be kept.

    Raises:
        RecipeError: If the recipe has one, and the system does not report memory.
    """
    if recipe.features.memory_gb is not None and highest_bytes() is None:
        raise memory_unknown()


class StepLog:
    """Shows and logs each step of a training on labelled crops, and stops one that takes too much memory.

    Args:
        recipe: Sets the memory limit.
        path: File of the log.
        bar: The command's progress bar.
        lower: Settings that lower the memory of the training.
    """

    def __init__(self, recipe: Recipe, path: Path, bar: Bar, *, lower: str = _DECODER_MEMORY) -> None:
        self._recipe, self._path, self._bar, self._lower = recipe, path, bar, lower
        self._log: MetricsLog | None = None

    def add(self, step: int, loss: float) -> None:
        """Take the loss of a step.

        Raises:
            RecipeError: If more memory is in use than the recipe allows.
        """
        check_ceiling(self._recipe, step=step, lower=self._lower)
        if self._log is None:  # the first step shows where an interrupted training resumes; its earlier log is kept
            if step > 1:
                self._bar.resume_at(step - 1)
            self._log = MetricsLog(self._path, keep_until=step - 1, count="step")
        self._bar.update(step, f"loss {loss:.4f}")
        self._log.write({"step": step, "loss": round(loss, 6)})

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()


def check_ceiling(recipe: Recipe, *, step: int, lower: str = _DECODER_MEMORY) -> None:
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


def read_labelled(crops: Sequence[LabelledCrop]) -> LabelledPictures:
    """Read imported crops."""
    slides = [c.shown_slide for c in crops]
    return LabelledPictures([c.picture() for c in crops], [c.label_map() for c in crops], slides)


def tune_settings(recipe: Recipe, seed: int) -> TuneSettings:
    """Return the tuning settings of a recipe."""
    return TuneSettings(**vars(recipe.decoder), seed=seed, precision=recipe.training.precision)
