"""The progress bar of a training, with its losses and rate."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cytoseg.diffusion.loss_log import LossReading
from cytoseg.diffusion.train_plan import TrainPlan
from cytoseg.diffusion.train_steps import StepReport
from cytoseg.recipe import Recipe
from cytoseg.terminal import progress
from cytoseg.workflows.training_previews import tensorboard_log


@contextlib.contextmanager
def shown_steps(
    folder: Path, plan: TrainPlan, recipe: Recipe
) -> Iterator[tuple[Callable[[StepReport], None], list[int]]]:
    """Show the steps in a progress bar; after the first step the list has the crops seen before it.

    Args:
        folder: Folder of the training, also for TensorBoard's log.
        plan: What is trained.
        recipe: The recipe.
    """
    first: list[int] = []
    begin = time.perf_counter()
    with progress("crops", plan.settings.crops) as bar, tensorboard_log(folder, recipe, plan.architecture) as track:

        def on_step(report: StepReport) -> None:
            if not first:
                first.append(report.crops_seen - report.crops)
                bar.resume_at(first[0])
            track(report)
            if report.reading is not None:
                rate = (report.crops_seen - first[0]) / (time.perf_counter() - begin)
                bar.update(report.crops_seen, f"{_losses(report.reading, plan)}  {rate:.1f} crops/s")

        yield on_step, first


def _losses(reading: LossReading, plan: TrainPlan) -> str:
    """Name the losses that have a weight."""
    denoising = [f"loss {reading.mean:.4f}"] if plan.settings.denoising_weight else []
    others = [] if reading.mean_masks is None else [f"{plan.architecture.other_loss} {reading.mean_masks:.4f}"]
    return ", ".join(denoising + others)
