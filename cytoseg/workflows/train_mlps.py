"""Training a run's MLPs, and what is reported of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cytoseg.features.extract import FeatureExtractor
from cytoseg.features.pixel_table import PixelTable, gather_pixels
from cytoseg.interpreter.holdout import MIN_SLIDES
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.train_mlps import Trained, train_ensemble
from cytoseg.labels.index import LabelledCrop
from cytoseg.memory_use import peak_memory
from cytoseg.recipe import Recipe
from cytoseg.runs import MetricsLog
from cytoseg.terminal import progress
from cytoseg.workflows.labelled_pixels import (
    LabelledCrops,
    check_rows,
    ensemble_settings,
    memory_limits,
    pixel_draw,
    pixels_used,
    used_sentence,
)
from cytoseg.workflows.recorded_command import Run


@dataclass(frozen=True)
class TrainedMlps:
    """Result of a training.

    Attributes:
        ensemble: The MLPs.
        details: What is stored of the training: pixels, memory, and results on held-out slides.
        sentences: The same for the user.
    """

    ensemble: Ensemble
    details: dict[str, Any]
    sentences: tuple[str, ...]


def train_run_mlps(extractor: FeatureExtractor, train: Sequence[LabelledCrop], current: Run) -> TrainedMlps:
    """Train MLPs on the train crops.

    Args:
        extractor: Computes their features.
        train: The crops.
        current: The run; the losses go into its interpreter/.

    Raises:
        LabelError: If fewer than two classes are labelled.
        RecipeError: If the recipe's memory limit is too low.
    """
    with peak_memory() as peak:
        table = _pixels(extractor, train, current)
        trained = _ensemble(table, train, current, device=extractor.device)
    used = pixels_used(table, current.recipe.class_list().names, peak_mb=peak.mb)
    ensemble, pixels = trained.ensemble, len(table.classes)
    size = f"{ensemble.members} MLPs on {pixels:,} pixels with {ensemble.inputs:,} features each."
    sentences = (size, used_sentence(used), *_sentences(trained, current.recipe))
    return TrainedMlps(ensemble, {"pixels": pixels, **used, **_findings(trained)}, sentences)


def _findings(trained: Trained) -> dict[str, Any]:
    """Return the held-out results for the bundle."""
    calibration = trained.calibration
    return {
        "kept_steps": None if trained.kept_steps is None else list(trained.kept_steps),
        "calibration": None if calibration is None else calibration.as_json(),
    }


def _sentences(trained: Trained, recipe: Recipe) -> list[str]:
    """Return sentences on the held-out results, or that there were none."""
    i, found = recipe.interpreter, []
    if trained.kept_steps is not None:
        steps = sorted(trained.kept_steps)
        found.append(f"Early stopping on held-out slides kept the weights of steps {steps[0]} to {steps[-1]}.")
    if trained.calibration is not None:
        found.append(trained.calibration.sentence())
    wanted = i.mode == "tuned" and (i.early_stopping or i.calibrate)
    if wanted and trained.kept_steps is None and trained.calibration is None:
        found.append(
            "No slide was held out, so there was no early stopping and no calibration: both need crops of "
            f"{MIN_SLIDES} slides, with each class on several."
        )
    return found


def _pixels(extractor: FeatureExtractor, train: Sequence[LabelledCrop], current: Run) -> PixelTable:
    recipe = current.recipe
    with progress("features", len(train)) as bar:
        table = gather_pixels(
            extractor,
            LabelledCrops(tuple(train)),
            pixel_draw(recipe, recipe.training.seed),
            room=memory_limits(recipe, current.folder / "interpreter", device=extractor.device),
            on_crop=bar.update,
        )
    check_rows(table, [crop.crop for crop in train])
    return table


def _ensemble(table: PixelTable, train: Sequence[LabelledCrop], current: Run, *, device: torch.device) -> Trained:
    recipe = current.recipe
    log = MetricsLog(current.folder / "interpreter" / "metrics.jsonl")
    with progress("interpreters", recipe.interpreter.steps) as bar:

        def on_step(step: int, total: int, loss: float) -> None:
            bar.update_phase(f"loss {loss:.4f}", step, total)
            log.write({"step": step, "loss": round(loss, 6)})

        try:
            return train_ensemble(
                table,
                len(recipe.class_list()),
                slides=[crop.shown_slide for crop in train],
                settings=ensemble_settings(recipe, recipe.training.seed),
                device=device,
                on_step=on_step,
            )
        finally:
            log.close()
