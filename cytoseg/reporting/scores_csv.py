"""Scores of an evaluation as CSV in long form."""

from collections.abc import Iterator
from dataclasses import dataclass

from cytoseg.csv_table import csv_text
from cytoseg.metrics.results import (
    MEASURES,
    ClassScores,
    Evaluation,
    MethodScores,
    ObjectScores,
    Score,
    UncertaintyScores,
)

HEAD = ("group", "name", "method", "class", "measure", "value", "low", "high", "crops", "slides")
Value = tuple[str, str, Score]
"""Class, measure and score."""


@dataclass(frozen=True)
class _Part:
    """Group of a score: all test crops, one slide or one stain; uncounted numbers are None."""

    group: str
    name: str
    crops: int | None
    slides: int | None


def scores_csv(evaluation: Evaluation) -> str:
    """Write all scores in long form: one row per value.

    Args:
        evaluation: The evaluation.

    Returns:
        CSV with the header ``HEAD``. The group is "all", "slide" or "stain", with the name of the slide or stain.
        Fractions are 0 to 1 in full precision, low and high are the 95 % interval; undefined values are empty. A last
        column counts the test crops corrected from a prediction, if there are any. An apostrophe precedes text that a
        spreadsheet would read as a formula.
    """
    marked = [evaluation.corrected] if evaluation.corrected else []
    head = (*HEAD, "test crops corrected from a prediction") if marked else HEAD
    lines = [
        (part.group, part.name, method.title, class_name, measure, *numbers, part.crops, part.slides, *marked)
        for method in evaluation.methods
        for part, values in _parts(evaluation, method)
        for class_name, measure, score in values
        for numbers in [(score.value, score.low, score.high)]
    ]
    return csv_text([head, *lines])


def _parts(evaluation: Evaluation, method: MethodScores) -> Iterator[tuple[_Part, list[Value]]]:
    whole = _Part("all", "", evaluation.test_crops, evaluation.test_slides)
    once = [("calibration error (ECE)", method.ece), ("training (s)", method.train_s)]
    once.append(("prediction (s)", method.predict_s))
    once += [value for scores in method.uncertainty for value in _of_uncertainty(scores)]
    mean = ("", "mean IoU", method.miou)
    of_objects = [value for name, objects in method.objects.items() for value in _of_objects(name, objects)]
    of_method = (("", measure, Score(value)) for measure, value in once)
    yield whole, [mean, *_of_classes(method.classes), *of_objects, *of_method]
    for slide in method.slides:
        shares = zip(evaluation.class_names, slide.iou, strict=True)
        values = [("", "mean IoU", Score(slide.miou)), *((name, "IoU", Score(value)) for name, value in shares)]
        yield _Part("slide", slide.slide, slide.crops, 1), values
    for stain in method.stains:
        yield (
            _Part("stain", stain.stain, None, stain.slides),
            [("", "mean IoU", stain.miou), *_of_classes(stain.classes)],
        )


def _of_classes(classes: tuple[ClassScores, ...]) -> list[Value]:
    return [
        (scores.name, measure, score)
        for scores in classes
        for measure, score in (
            ("IoU", scores.iou),
            ("Dice", Score(scores.dice)),
            ("precision", Score(scores.precision)),
            ("recall", Score(scores.recall)),
            ("true pixels", Score(scores.pixels)),
        )
    ]


def _of_uncertainty(scores: UncertaintyScores) -> list[tuple[str, float | None]]:
    return [
        (f"AURC by {MEASURES[scores.measure]}", scores.whole.aurc),
        (f"errors in the least certain 5 % by {MEASURES[scores.measure]}", scores.whole.found),
    ]


def _of_objects(name: str, objects: ObjectScores) -> list[Value]:
    return [
        (name, f"objects: {measure}", Score(value))
        for measure, value in (
            ("true", objects.truth),
            ("predicted", objects.predicted),
            ("matched", objects.matched),
            ("precision", objects.precision),
            ("recall", objects.recall),
            ("F1", objects.f1),
            ("aggregated Jaccard", objects.aji),
            ("panoptic quality", objects.pq),
        )
    ]
