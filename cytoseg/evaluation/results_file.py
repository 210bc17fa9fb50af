"""evaluation.json: its content, reading and validating it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cytoseg.errors import CytosegError
from cytoseg.evaluation.run_folder import readable
from cytoseg.metrics.results import (
    MEASURES,
    Calibration,
    ClassScores,
    CropScores,
    Evaluation,
    MethodScores,
    ObjectScores,
    Score,
    SlideScores,
    StainScores,
    UncertaintyScores,
)
from cytoseg.metrics.risk import COVERAGES
from cytoseg.records import RecordFile
from cytoseg.writing import restore_after_kill

FORMAT = 1
_NAME = "evaluation.json"


@dataclass(frozen=True)
class NamedColour:
    """A class of the class list."""

    name: str
    colour: tuple[int, ...]


@dataclass(frozen=True)
class Seconds:
    """Seconds of training, None if nothing is trained, and of predicting all test crops."""

    train: float | None
    predict: float | None


@dataclass(frozen=True)
class ClassRecord:
    """``ClassScores`` as the file holds them."""

    name: str
    iou: float | None
    iou_low: float | None
    iou_high: float | None
    dice: float | None
    precision: float | None
    recall: float | None
    pixels: int

    @classmethod
    def of(cls, scores: ClassScores) -> "ClassRecord":
        """Flatten scores."""
        iou = scores.iou
        shares = (iou.value, iou.low, iou.high, scores.dice, scores.precision, scores.recall)
        return cls(scores.name, *shares, scores.pixels)

    def scores(self) -> ClassScores:
        """Return the scores."""
        score = Score(self.iou, self.iou_low, self.iou_high)
        return ClassScores(self.name, score, self.dice, self.precision, self.recall, self.pixels)


@dataclass(frozen=True)
class PooledRecord:
    """Scores over several crops."""

    classes: tuple[ClassRecord, ...]
    miou: float | None
    miou_low: float | None
    miou_high: float | None

    def score(self) -> Score:
        """Return the mean IoU."""
        return Score(self.miou, self.miou_low, self.miou_high)

    def class_scores(self) -> tuple[ClassScores, ...]:
        """Return the scores of the classes."""
        return tuple(entry.scores() for entry in self.classes)


@dataclass(frozen=True)
class StainRecord(PooledRecord):
    """``StainScores`` as the file holds them."""

    stain: str
    slides: int


@dataclass(frozen=True)
class MethodRecord(PooledRecord):
    """One method; older evaluations lack the fields that were measured later."""

    key: str
    title: str
    seconds: Seconds
    confusion: tuple[tuple[int, ...], ...]
    slides: tuple[SlideScores, ...]
    stains: tuple[StainRecord, ...] = ()
    calibration: Calibration | None = None
    uncertainty: tuple[UncertaintyScores, ...] = ()
    objects: dict[str, ObjectScores] = field(default_factory=dict)
    reference_miou: float | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationInputs:
    """Inputs that determine whether an evaluation is up to date; older evaluations lack some of them.

    Attributes:
        recipe: Name of the recipe.
        train_crops: Number of training crops.
        bundle: Origin of the bundle.
        test_labels: Hash of each test crop's label map.
        corrected_tests: Test crops that were corrected from a prediction.
        test_pictures: Slide and hash of each test crop.
        baseline: Whether the random forest is among the methods.
        object_settings: Section ``objects`` of the recipe, with the classes that it resolves to.
        uncertainty_measures: Keys of ``MEASURES``.
        stain_patterns: Patterns of slide names by stain.
        train_hashes: Hashes of image and label map of each training crop, from which the baselines are trained.
        seed: Seed of the random forest and of the intervals.
        class_colours: Colours of the classes, in which crops are drawn.
        tiles: Side and overlap of the tiles of large test crops; None if all are predicted whole.
    """

    recipe: str
    train_crops: int
    bundle: dict[str, Any] = field(default_factory=dict)
    test_labels: dict[str, str] = field(default_factory=dict)
    corrected_tests: tuple[str, ...] = ()
    test_pictures: dict[str, tuple[str, str]] = field(default_factory=dict)
    baseline: bool | None = None
    object_settings: dict[str, Any] | None = None
    uncertainty_measures: tuple[str, ...] = ()
    stain_patterns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    train_hashes: dict[str, tuple[str, str]] = field(default_factory=dict)
    seed: int | None = None
    class_colours: tuple[tuple[int, ...], ...] = ()
    tiles: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord(EvaluationInputs):
    """What evaluation.json holds."""

    created: str
    classes: tuple[NamedColour, ...]
    test_crops: int
    test_slides: int
    methods: tuple[MethodRecord, ...]
    crops: tuple[CropScores, ...]


_FILE = RecordFile(
    EvaluationRecord,
    CytosegError,
    "Run `cytoseg evaluate RECIPE` to write it again.",
    format=FORMAT,
    other_format="the file has format {found}, this version reads format {format}",
    not_json="the file is not complete JSON",
    numbers="nan as null",
)


def read_evaluation(run: Path) -> Evaluation | None:
    """Read the evaluation of a run and check its consistency.

    Args:
        run: The run folder.

    Returns:
        The evaluation, or None if the run has not been evaluated.

    Raises:
        CytosegError: If the file is damaged, incomplete, of another format or may not be read.
    """
    path = run / "evaluation" / _NAME
    restore_after_kill(path.parent)
    with readable(_NAME):
        return read_evaluation_file(path) if path.is_file() else None


def read_evaluation_file(path: Path) -> Evaluation:
    """Read an evaluation and check its consistency.

    Args:
        path: evaluation.json of a run, or a copy of it.

    Raises:
        CytosegError: If the file is damaged, incomplete, of another format or may not be read.
    """
    return evaluation_of(read_evaluation_record(path))


def read_evaluation_record(path: Path) -> EvaluationRecord:
    """Read evaluation.json as it is written; the parameter and errors are those of ``read_evaluation_file``."""
    with readable(_NAME):
        return _FILE.read(path, name=_NAME)


def saved_evaluation(path: Path, inputs: EvaluationInputs) -> dict[str, Any] | None:
    """Return the content of an evaluation with these inputs; None if it has others, is damaged or missing.

    Args:
        path: evaluation.json.
        inputs: Inputs of the evaluation.
    """
    found = _FILE.read_or_none(path)
    if found is None or any(getattr(found, f.name) != getattr(inputs, f.name) for f in fields(inputs)):
        return None
    return _FILE.content_of(found)


def write_evaluation(folder: Path, record: EvaluationRecord) -> dict[str, Any]:
    """Write evaluation.json into a (staged) folder and return its content."""
    content = _FILE.content_of(record)
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / _NAME).write_text(text + "\n", encoding="utf-8")
    return content


def evaluation_of(record: EvaluationRecord) -> Evaluation:
    """Check that the parts of an evaluation belong together.

    Raises:
        CytosegError: If they do not.
    """
    size = len(record.classes)
    for number, crop in enumerate(record.crops, 1):
        _check_crop(crop, size, f"crop {number}")
    return Evaluation(
        created=record.created,
        recipe=record.recipe,
        class_names=tuple(entry.name for entry in record.classes),
        colours=tuple(_colour(entry.colour) for entry in record.classes),
        train_crops=record.train_crops,
        test_crops=record.test_crops,
        test_slides=record.test_slides,
        methods=tuple(_method(entry, size, f"method {number}") for number, entry in enumerate(record.methods, 1)),
        crops=record.crops,
    )


def _method(record: MethodRecord, size: int, where: str) -> MethodScores:
    _check_method(record, size, where)
    return MethodScores(
        key=record.key,
        title=record.title,
        train_s=record.seconds.train,
        predict_s=record.seconds.predict,
        classes=record.class_scores(),
        miou=record.score(),
        confusion=record.confusion,
        slides=record.slides,
        calibration=record.calibration,
        objects=record.objects,
        stains=tuple(StainScores(s.stain, s.slides, s.score(), s.class_scores()) for s in record.stains),
        uncertainty=record.uncertainty,
        reference_miou=record.reference_miou,
    )


def _check_method(record: MethodRecord, size: int, where: str) -> None:
    if any(len(row) != size for row in record.confusion):
        raise _damaged(where, f"has a confusion row that is not {size} whole numbers")
    if not len(record.classes) == len(record.confusion) == size:
        found = f"has {len(record.classes)} classes and {len(record.confusion)} confusion rows"
        raise _damaged(where, f"{found}, expected {size}")
    for slide in record.slides:
        _check_length(slide.iou, "iou", size, where)
    if record.calibration and record.calibration.classes:
        _check_length(record.calibration.classes, "classes", size, where)
    for what, parts in (("stain", record.stains), ("measure of uncertainty", record.uncertainty)):
        for part in parts:
            if len(part.classes) != size:
                raise _damaged(where, f"has a {what} with {len(part.classes)} classes, expected {size}")
    for scores in record.uncertainty:
        if scores.measure not in MEASURES:
            raise _damaged(where, f"has an unknown measure of uncertainty ({scores.measure[:40]!r})")
        _check_length(scores.curve, "curve", len(COVERAGES), where)


def _check_crop(crop: CropScores, size: int, where: str) -> None:
    path = Path(crop.folder)
    if path.is_absolute() or ".." in path.parts:
        raise _damaged(where, f"has a folder outside the evaluation ({crop.folder!r})")
    _check_length(crop.iou, "iou", size, where)


def _check_length(values: Sequence[object], key: str, size: int, where: str) -> None:
    if len(values) != size:
        raise _damaged(where, f"has {len(values)} values in '{key}', expected {size}")


def _colour(found: Sequence[int]) -> tuple[int, int, int]:
    if len(found) != 3 or not all(0 <= part <= 255 for part in found):
        raise _damaged("classes", f"has a colour that is not three numbers from 0 to 255 ({list(found)})")
    return found[0], found[1], found[2]


def _damaged(where: str, what: str) -> CytosegError:
    return CytosegError(f"{_NAME}: {where} {what}. {_FILE.advice}")
