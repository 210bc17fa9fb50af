"""Evaluating methods on the test crops: predictions, scores, tables."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import PredictionError
from cytoseg.evaluation.crop_pictures import CropMaps, write_crop_pictures
from cytoseg.evaluation.match_objects import crop_objects
from cytoseg.evaluation.results_file import (
    ClassRecord,
    EvaluationInputs,
    EvaluationRecord,
    MethodRecord,
    NamedColour,
    Seconds,
    StainRecord,
    write_evaluation,
)
from cytoseg.evaluation.tables import write_tables
from cytoseg.metrics.calibration import calibration_error, confidence_bins
from cytoseg.metrics.counts import confusion_counts, counts_on_ignored
from cytoseg.metrics.objects import ObjectCounts, object_scores
from cytoseg.metrics.results import Calibration, ConfidenceBin, CropScores, UncertaintyScores
from cytoseg.metrics.risk import risk, risk_counts, risk_curve
from cytoseg.metrics.segmentation import iou, mean_iou, or_none, pooled_scores, reference_miou, slide_scores
from cytoseg.objects.settings import ObjectSettings
from cytoseg.predict.candidate_regions import highest_tenth
from cytoseg.writing import replaced

Map = NDArray[np.uint8]


@dataclass(frozen=True)
class CropPrediction:
    """Prediction of a method for one crop.

    Attributes:
        class_map: (H, W) uint8 ids.
        disagreement: (H, W) float32 in nats, or None if the method has none.
        probabilities: (K, H, W) float32, ``class_map`` is their argmax, or None if the method has none.
    """

    class_map: Map
    disagreement: NDArray[np.float32] | None = None
    probabilities: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Method:
    """One way to predict crops: the ensemble or a baseline.

    Attributes:
        key: Short name in the files, such as ``ensemble``, ``forest``, ``commonest``.
        title: Displayed name.
        predict: From a crop (H, W, 3) uint8 RGB to its prediction.
        train_seconds: Training time in seconds, or None if nothing is trained.
    """

    key: str
    title: str
    predict: Callable[[NDArray[np.uint8]], CropPrediction]
    train_seconds: float | None


class ScoredCrop(Protocol):
    """A labelled crop that is not in the training set."""

    @property
    def crop(self) -> str:
        """Its unique id, a valid folder name."""

    @property
    def slide(self) -> str:
        """The slide it comes from."""

    def picture(self) -> NDArray[np.uint8]:
        """Read the crop, (H, W, 3) uint8 RGB."""

    def label_map(self) -> NDArray[np.uint8]:
        """Read the truth, (H, W) uint8 ids, 255 for ignore."""


@dataclass
class _Tally:
    """Running results of one method: the lists have an entry per crop; the rest is summed over crops.

    ``bins`` are the ``confidence_bins`` per predicted class, ``risks`` the ``risk_counts`` per measure.
    """

    seconds: float = 0.0
    counts: list[NDArray[np.int64]] = field(default_factory=list)
    on_ignored: list[NDArray[np.int64]] = field(default_factory=list)
    disagreement: list[float | None] = field(default_factory=list)
    bins: NDArray[np.float64] | None = None
    risks: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    objects: dict[str, ObjectCounts] = field(default_factory=dict)


@dataclass(frozen=True)
class Scoring:
    """How predictions are scored.

    Attributes:
        classes: Names and colours.
        seed: Seed of the bootstrap intervals.
        objects: Object settings for matching, or None.
        stains: Stain by slide, for scores by stain.
    """

    classes: ClassList
    seed: int
    objects: ObjectSettings | None = None
    stains: Mapping[str, str] = field(default_factory=dict)


def evaluate(
    methods: Sequence[Method],
    crops: Sequence[ScoredCrop],
    *,
    folder: Path,
    scoring: Scoring,
    inputs: EvaluationInputs,
    on_crop: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Predict every crop with every method, and write scores, tables and images.

    Args:
        methods: The first one is the main method: crops are scored and drawn with its prediction.
        crops: The test crops.
        folder: The evaluation folder, replaced atomically at the end.
        scoring: How predictions are scored.
        inputs: Determine whether the evaluation is up to date.
        on_crop: Called after each crop with the number done and the total.

    Returns:
        The content of evaluation.json.

    Raises:
        PredictionError: If there is no crop, a prediction is not finite, or the folder cannot be written.
    """
    if not crops:
        raise PredictionError("evaluate: no test crops. Annotate crops of other slides and import them.")
    with replaced(folder, error=PredictionError, ours=("evaluation.json",)) as new:
        tallies = [_Tally() for _ in methods]
        for done, crop in enumerate(crops, start=1):
            _predict_crop(methods, crop, tallies=tallies, folder=new, scoring=scoring)
            if on_crop is not None:
                on_crop(done, len(crops))
        evaluation = write_evaluation(new, _record(methods, tallies, crops, scoring=scoring, inputs=inputs))
        write_tables(new, evaluation, stains=scoring.stains)
    return evaluation


def is_corrected(crop: object) -> bool:
    """Return whether a test crop's truth was corrected from a prediction; False for crops that were not imported."""
    return bool(getattr(crop, "from_prediction", False))


def _record(
    methods: Sequence[Method],
    tallies: Sequence[_Tally],
    crops: Sequence[ScoredCrop],
    *,
    scoring: Scoring,
    inputs: EvaluationInputs,
) -> EvaluationRecord:
    classes = scoring.classes
    return EvaluationRecord(
        **vars(inputs),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        classes=tuple(map(NamedColour, classes.names, classes.colours)),
        test_crops=len(crops),
        test_slides=len({crop.slide for crop in crops}),
        methods=tuple(
            _method_record(method, tally, crops, scoring=scoring)
            for method, tally in zip(methods, tallies, strict=True)
        ),
        crops=_crop_records(tallies[0], crops),
    )


def _predict_crop(
    methods: Sequence[Method],
    crop: ScoredCrop,
    *,
    tallies: Sequence[_Tally],
    folder: Path,
    scoring: Scoring,
) -> None:
    picture, truth = crop.picture(), crop.label_map()
    classes, objects = scoring.classes, scoring.objects
    for method, tally in zip(methods, tallies, strict=True):
        begin = time.perf_counter()
        found = method.predict(picture)
        tally.seconds += time.perf_counter() - begin
        _check_finite(found, crop.crop)
        disagreement = found.disagreement
        tally.counts.append(confusion_counts(truth, found.class_map, len(classes)))
        tally.on_ignored.append(counts_on_ignored(truth, found.class_map, len(classes)))
        tally.disagreement.append(None if disagreement is None else highest_tenth(disagreement))
        _add_certainty(tally, found, truth, classes=len(classes))
        if objects is not None:
            for name, counts in crop_objects(truth, found.class_map, classes=classes, settings=objects).items():
                tally.objects[name] = tally.objects.get(name, ObjectCounts()) + counts
        if tally is tallies[0]:
            maps = CropMaps(picture, truth, found.class_map, disagreement)
            write_crop_pictures(folder / "crops" / crop.crop, maps, classes)


def _add_certainty(tally: _Tally, found: CropPrediction, truth: Map, *, classes: int) -> None:
    """Accumulate confidence and errors of a crop's prediction, without ignored pixels."""
    labelled = truth != IGNORE
    predicted, right = found.class_map[labelled], truth[labelled]
    measures: dict[str, NDArray[np.float32]] = {}
    if found.disagreement is not None:
        measures["disagreement"] = found.disagreement[labelled]
    if found.probabilities is not None:
        probabilities = found.probabilities[:, labelled].T
        measures["probability"] = 1 - probabilities.max(axis=1)
        chosen = [predicted == class_id for class_id in range(classes)]
        bins = np.stack([confidence_bins(probabilities[these], right[these]) for these in chosen])
        tally.bins = bins if tally.bins is None else tally.bins + bins
    for measure, uncertainty in measures.items():
        counts = risk_counts(uncertainty, predicted=predicted, truth=right, classes=classes)
        tally.risks[measure] = tally.risks[measure] + counts if measure in tally.risks else counts


def _check_finite(found: CropPrediction, crop: str) -> None:
    for numbers in (found.disagreement, found.probabilities):
        if numbers is not None and not np.isfinite(numbers).all():
            raise PredictionError(
                f"{crop}: the prediction contains NaN or infinite values. The interpreters are probably damaged: "
                "run train-interpreter again."
            )


def _method_record(method: Method, tally: _Tally, crops: Sequence[ScoredCrop], *, scoring: Scoring) -> MethodRecord:
    by_slide: dict[str, list[NDArray[np.int64]]] = {}
    for crop, counts in zip(crops, tally.counts, strict=True):
        by_slide.setdefault(crop.slide, []).append(counts)
    slides = {slide: np.sum(by_slide[slide], axis=0) for slide in sorted(by_slide)}
    return MethodRecord(
        key=method.key,
        title=method.title,
        seconds=Seconds(method.train_seconds, round(tally.seconds, 3)),
        **_pooled(list(slides.values()), scoring),
        confusion=tuple(tuple(row) for row in np.sum(list(slides.values()), axis=0).tolist()),
        calibration=_calibration(tally.bins),
        uncertainty=tuple(_uncertainty(measure, counts) for measure, counts in tally.risks.items()),
        objects={name: object_scores(counts) for name, counts in tally.objects.items()},
        reference_miou=reference_miou(np.sum(tally.counts, axis=0), np.sum(tally.on_ignored, axis=0)),
        slides=slide_scores(by_slide),
        stains=_stain_records(slides, scoring),
    )


def _pooled(slides: Sequence[NDArray[np.int64]], scoring: Scoring) -> dict[str, Any]:
    """Compute the fields of a ``PooledRecord`` from the counts of slides, (K, K) each."""
    scores, miou = pooled_scores(np.stack(slides), scoring.classes.names, seed=scoring.seed)
    classes = tuple(ClassRecord.of(entry) for entry in scores)
    return {"classes": classes, "miou": miou.value, "miou_low": miou.low, "miou_high": miou.high}


def _stain_records(slides: Mapping[str, NDArray[np.int64]], scoring: Scoring) -> tuple[StainRecord, ...]:
    by_stain: dict[str, list[NDArray[np.int64]]] = {}
    for slide, counts in slides.items():
        if slide in scoring.stains:
            by_stain.setdefault(scoring.stains[slide], []).append(counts)
    return tuple(
        StainRecord(stain=stain, slides=len(counts), **_pooled(counts, scoring))
        for stain, counts in sorted(by_stain.items())
    )


def _calibration(bins: NDArray[np.float64] | None) -> Calibration | None:
    """Return the calibration error, overall and by class, with the pixels, confidence and accuracy behind it."""
    if bins is None:
        return None
    total = bins.sum(axis=0)
    shares = total[:, 1:] / np.where(total[:, :1] > 0, total[:, :1], np.nan)
    return Calibration(
        ece=or_none(np.array([calibration_error(total)]))[0],
        classes=tuple(or_none(np.array([calibration_error(entry) for entry in bins]))),
        bins=tuple(
            ConfidenceBin(int(pixels), confidence, right)
            for (pixels, _, _), (confidence, right) in zip(total, map(or_none, shares), strict=True)
        ),
    )


def _uncertainty(measure: str, counts: NDArray[np.int64]) -> UncertaintyScores:
    total = counts.sum(axis=0)
    return UncertaintyScores(measure, risk(total), tuple(risk(entry) for entry in counts), tuple(risk_curve(total)))


def _crop_records(tally: _Tally, crops: Sequence[ScoredCrop]) -> tuple[CropScores, ...]:
    return tuple(
        CropScores(
            crop=crop.crop,
            slide=crop.slide,
            miou=or_none(mean_iou(counts))[0],
            iou=tuple(or_none(iou(counts))),
            disagreement=disagreement,
            folder=f"crops/{crop.crop}",
            from_prediction=is_corrected(crop),
        )
        for crop, counts, disagreement in zip(crops, tally.counts, tally.disagreement, strict=True)
    )
