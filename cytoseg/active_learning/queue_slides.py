"""Predicted slides that the queue may use."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cytoseg.active_learning.candidates import Predicted
from cytoseg.active_learning.cut_crops import Cutting
from cytoseg.classes import ClassList
from cytoseg.errors import LabelError, PredictionError
from cytoseg.labels.index import has_index, load_index
from cytoseg.labels.settings import LabelsSection
from cytoseg.labels.split import split_by_slide
from cytoseg.patterns import fits
from cytoseg.predict.summary import SUMMARY_NAME, finished_summary
from cytoseg.quoting import join_first, short_repr
from cytoseg.slides.open import SLIDE_SUFFIXES
from cytoseg.viewer.slide_catalogue import is_predicted

QUEUE_FOLDER = "queue"
"""Default queue folder in the run folder, also used by the app."""
ADVICE = "Run `cytoseg predict RECIPE SLIDE` on it again."


@dataclass(frozen=True)
class QueueRules:
    """Recipe settings of the queue.

    Attributes:
        cutting: Size and resolution of the regions, and the classes.
        labels: Determines the test slides.
        seed: Seed of the choice.
        kind: Interpreter kind, whose learning curve estimates the gain.
    """

    cutting: Cutting
    labels: LabelsSection
    seed: int
    kind: str


@dataclass(frozen=True)
class QueuePlace:
    """Location of a run's queue.

    Attributes:
        rules: Recipe settings.
        run: The run folder.
        labels: The labels folder.
        queue: The queue folder.
    """

    rules: QueueRules
    run: Path
    labels: Path
    queue: Path


def predicted_slides(place: QueuePlace) -> tuple[list[Predicted], list[str]]:
    """Find the predicted slides that may be used, and explain why others are skipped.

    Raises:
        PredictionError: If none was predicted.
        LabelError: If the labels' index is damaged.
    """
    parent = place.run / "predictions"
    folders = sorted(parent.iterdir()) if parent.is_dir() else []
    folders = [folder for folder in folders if folder.is_dir() and not folder.name.startswith(".")]
    if not folders:
        raise PredictionError("queue: no slide of this run was predicted. Run `cytoseg predict RECIPE SLIDE` first.")
    is_test = match_test_slides(place)
    found, notes = [], []
    for folder in folders:
        try:
            if is_test(folder.name):
                raise PredictionError(
                    "it is a test slide, whose crops are not used for training. Predict train slides."
                )
            found.append(Predicted(folder.name, folder, _slide_of(folder, place.rules.cutting.classes)))
        except PredictionError as error:
            notes.append(f"{folder.name}: left out: {error}")
    return found, notes


def _slide_of(folder: Path, wanted: ClassList) -> Path:
    """Find the slide's file from the summary of its prediction.

    Raises:
        PredictionError: If the prediction is incomplete or of other classes, or its slide is missing.
    """
    path = folder / SUMMARY_NAME
    if not path.is_file():
        raise PredictionError(f"its prediction is not finished ({SUMMARY_NAME} is missing). {ADVICE}")
    summary = finished_summary(folder)
    classes = list(summary.classes)
    if classes != list(wanted.names):
        raise PredictionError(
            f"it was predicted with other classes ({join_first(classes, max_parts=9, between=', ')}). {ADVICE}"
        )
    named = summary.slide_path
    if not named.lower().endswith(SLIDE_SUFFIXES):
        raise PredictionError(f"{SUMMARY_NAME} names no slide ({short_repr(named)}). {ADVICE}")
    slide = Path(named)
    if not os.path.exists(slide):  # unlike Path.exists, it treats a name that is too long as missing
        raise PredictionError(f"its file {slide.name} is missing. Restore it, or predict it at its new path.")
    if not is_predicted(slide, summary):  # the run folder may come from another person
        raise PredictionError(f"its file {slide.name} is not the file that was predicted. {ADVICE}")
    return slide


def match_test_slides(place: QueuePlace) -> Callable[[str], bool]:
    """Return a test for test slides by name: from the recipe's patterns, otherwise from the random split."""
    rules = place.rules
    if rules.labels.test_slides:
        return lambda name: fits(name, rules.labels.test_slides)
    crops = load_index(place.labels).crops if has_index(place.labels) else ()
    try:
        split = split_by_slide(crops, test_slides=(), test_fraction=rules.labels.test_fraction, seed=rules.seed)
    except LabelError:  # too few slides to split: no test slides yet
        return lambda name: False
    test = {crop.slide for crop in split.test}
    return lambda name: name in test
