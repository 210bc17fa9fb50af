"""Training a student from the recipe's ensemble or decoder, with resuming."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from cytoseg.interpreter.bundle import Bundle, EnsemblePredictor
from cytoseg.interpreter.distillation import Lesson, distil
from cytoseg.interpreter.student import Student
from cytoseg.interpreter.tune_state import Resume
from cytoseg.labels.index import LabelledCrop
from cytoseg.predict.array import predict_array
from cytoseg.recipe import Recipe
from cytoseg.terminal import progress, say
from cytoseg.workflows.generated_pairs import generated_crops
from cytoseg.workflows.recorded_command import Run
from cytoseg.workflows.step_log import StepLog
from cytoseg.workflows.unlabelled_crops import unlabelled_crops

Picture = NDArray[np.uint8]
_T = TypeVar("_T")


def train_run_student(
    teacher: Bundle,
    train: Sequence[LabelledCrop],
    current: Run,
    *,
    origin: Mapping[str, Any],
    device: torch.device,
) -> Student:
    """Segment labelled, generated and unlabelled crops with the teacher, and train a student.

    An interrupted training is resumed; the teacher segments the crops again before.

    Args:
        teacher: The teacher bundle.
        train: The labelled crops.
        current: The run; losses and the state for resuming go into its interpreter/.
        origin: Everything that determines the result.
        device: Where to compute.

    Raises:
        RecipeError: If no slides are left for the unlabelled crops, or the recipe's memory limit is exceeded.
        CheckpointError: If the loss is not finite, or the state cannot be written.
        LabelError: If there are fewer generated pairs than student.made.
        PredictionError: If the teacher predicts NaN or infinite values.
        SlideError: If one cannot be read.
    """
    recipe = current.recipe
    taught = _lesson_of(EnsemblePredictor(teacher, device=device), recipe)
    made = generated_crops(current.folder, recipe.student.made, recipe.class_list())
    crops = (*train, *made)
    lessons = [taught(crop.picture(), crop.label_map()) for crop in _watched(crops, "labelled crops")]
    with unlabelled_crops(recipe, size_px=recipe.tile_px()) as crop:
        numbers = range(recipe.student.crops if crop is not None else 0)
        for number in _watched(numbers, "unlabelled crops"):
            assert crop is not None
            lessons.append(taught(_as_bytes(crop(number)), None))
    student, steps = Student(len(recipe.class_list()), seed=recipe.training.seed), recipe.student.steps
    folder = current.folder / "interpreter"
    with (
        progress("student", steps) as bar,
        contextlib.closing(StepLog(recipe, folder / "metrics.jsonl", bar, lower="student.crops")) as log,
    ):
        distil(
            student,
            lessons,
            steps=steps,
            seed=recipe.training.seed,
            device=device,
            precision=recipe.training.precision,
            resume=Resume(folder / "unfinished", origin),
            on_step=log.add,
        )
    unlabelled = len(lessons) - len(crops)
    told = f" and {len(made)} generated pairs" if made else ""
    say(f"Student trained on {len(train)} labelled and {unlabelled} unlabelled crops{told}.")
    return student


def _watched(items: Sequence[_T], what: str) -> Iterator[_T]:
    with progress(what, len(items)) as bar:
        for done, item in enumerate(items):
            bar.update(done)
            yield item
        bar.update(len(items))


def _lesson_of(predictor: EnsemblePredictor, recipe: Recipe) -> Callable[[Picture, Picture | None], Lesson]:
    """Return the function that segments an image in tiles, as slides are, so that memory does not grow with it."""
    tile_px, predict = recipe.tile_px(), recipe.predict
    batch = predict.batch or predictor.tiles_at_once(tile_px)

    def lesson(picture: Picture, label_map: Picture | None) -> Lesson:
        maps = predict_array(picture, predictor, tile_px=tile_px, overlap_px=predict.overlap_px, batch=batch)
        probabilities, disagreement = (part.astype(np.float16) for part in maps)
        return Lesson(picture, probabilities, disagreement, label_map)

    return lesson


def _as_bytes(crop: torch.Tensor) -> Picture:
    """Convert (3, H, W) in [-1, 1] to (H, W, 3) uint8."""
    pixels: Picture = ((crop + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return pixels
