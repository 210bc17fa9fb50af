"""Training a student from the recipe's ensemble or decoder."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from cytoseg.interpreter.bundle import Bundle, EnsemblePredictor
from cytoseg.interpreter.distillation import Lesson, distil
from cytoseg.interpreter.student import Student
from cytoseg.labels.import_labels import LabelledCrop
from cytoseg.runs import MetricsLog
from cytoseg.workflows.made_pairs import made_crops
from cytoseg.workflows.recorded_command import Run, progress, say
from cytoseg.workflows.unlabelled_crops import unlabelled_crops

_T = TypeVar("_T")


def taught(teacher: Bundle, train: Sequence[LabelledCrop], current: Run, *, device: torch.device) -> Student:
    """Segment labelled, generated and unlabelled crops with the teacher, and train a student.

    Args:
        teacher: The teacher bundle.
        train: The labelled crops.
        current: The run; losses go into its interpreter/.
        device: Where to compute.

    Raises:
        RecipeError: If no slides are left for the unlabelled crops.
        LabelError: If there are fewer generated pairs than student.made.
        SlideError: If one cannot be read.
    """
    recipe = current.recipe
    predictor = EnsemblePredictor(teacher, device=device)
    made = made_crops(current.folder, recipe.student.made, recipe.class_list())
    crops = (*train, *made)
    lessons = [_lesson(predictor, crop.picture(), crop.label_map()) for crop in _watched(crops, "labelled crops")]
    with unlabelled_crops(recipe, size_px=recipe.tile_px()) as crop:
        numbers = range(recipe.student.crops if crop is not None else 0)
        for number in _watched(numbers, "unlabelled crops"):
            assert crop is not None
            lessons.append(_lesson(predictor, _as_bytes(crop(number)), None))
    student, steps = Student(len(recipe.class_list()), seed=recipe.training.seed), recipe.student.steps
    log = MetricsLog(current.folder / "interpreter" / "metrics.jsonl")
    with progress("student", steps) as bar:

        def on_step(step: int, loss: float) -> None:
            bar.at(step, f"loss {loss:.4f}")
            log.write({"step": step, "loss": round(loss, 6)})

        try:
            distil(
                student,
                lessons,
                steps=steps,
                seed=recipe.training.seed,
                device=device,
                precision=recipe.training.precision,
                on_step=on_step,
            )
        except KeyboardInterrupt:
            say("The student was interrupted. It starts again with the next call; a finished teacher is kept.")
            raise
        finally:
            log.close()
    unlabelled = len(lessons) - len(crops)
    told = f" and {len(made)} generated pairs" if made else ""
    say(f"Student trained on {len(train)} labelled and {unlabelled} unlabelled crops{told}.")
    return student


def _watched(items: Sequence[_T], what: str) -> Iterator[_T]:
    with progress(what, len(items)) as bar:
        for done, item in enumerate(items):
            bar.at(done)
            yield item
        bar.at(len(items))


def _lesson(predictor: EnsemblePredictor, picture: NDArray[np.uint8], label_map: NDArray[np.uint8] | None) -> Lesson:
    maps = predictor(picture[None])
    probabilities, disagreement = (maps[key][0].astype(np.float16) for key in ("probabilities", "disagreement"))
    return Lesson(picture, probabilities, disagreement, label_map)


def _as_bytes(crop: torch.Tensor) -> NDArray[np.uint8]:
    """Convert (3, H, W) in [-1, 1] to (H, W, 3) uint8."""
    pixels: NDArray[np.uint8] = ((crop + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return pixels
