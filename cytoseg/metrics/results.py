"""Data classes of evaluation results, and their text and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

NOT_APPLICABLE = "n/a"
MEASURES = {"disagreement": "disagreement", "probability": "stated probability"}
"""Measures of uncertainty and their names."""


@dataclass(frozen=True)
class Score:
    """A score between 0 and 1 with its 95 % interval; undefined parts are None.

    Attributes:
        value: The score, or None for a class in neither truth nor prediction.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def text(self) -> str:
        """Format the score, such as ``0.62 (0.55-0.68)``, ``0.62`` or ``n/a``."""
        if self.value is None or self.low is None or self.high is None:
            return share_text(self.value)
        return f"{self.value:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True)
class ClassScores:
    """Scores of one method for one class over all test crops; ``pixels`` counts the class in the truth."""

    name: str
    iou: Score
    dice: float | None
    precision: float | None
    recall: float | None
    pixels: int


@dataclass(frozen=True)
class ObjectScores:
    """Object scores of one class over all test crops.

    Label maps have no instances: true objects are connected components, so touching cells are one object.

    Attributes:
        truth: True objects.
        predicted: Predicted objects.
        matched: Pairs with an IoU of at least .5.
        precision: Fraction of predicted objects that match; this and the following are None if the denominator is 0.
        recall: Fraction of true objects that match.
        f1: Harmonic mean of both.
        aji: Aggregated Jaccard index.
        pq: Panoptic quality, ``sq`` times ``rq``.
        sq: Mean IoU of the pairs.
        rq: The same as ``f1``.
    """

    truth: int
    predicted: int
    matched: int
    precision: float | None
    recall: float | None
    f1: float | None
    aji: float | None
    pq: float | None
    sq: float | None
    rq: float | None

    def text(self, name: str) -> str:
        """Format the scores of a class, such as ``nucleus: 37 of 40 found, 5 false; F1 0.89, AJI 0.71, PQ 0.68``."""
        shares = ", ".join(f"{n} {share_text(v)}" for n, v in (("F1", self.f1), ("AJI", self.aji), ("PQ", self.pq)))
        return f"{name}: {self.matched} of {self.truth} found, {self.predicted - self.matched} false; {shares}"


@dataclass(frozen=True)
class SlideScores:
    """Scores of one method on one slide; ``iou`` follows the class list."""

    slide: str
    crops: int
    miou: float | None
    iou: tuple[float | None, ...]


@dataclass(frozen=True)
class StainScores:
    """Scores of one method on the slides of one stain; ``classes`` follows the class list."""

    stain: str
    slides: int
    miou: Score
    classes: tuple[ClassScores, ...]


@dataclass(frozen=True)
class ConfidenceBin:
    """Labelled pixels with a confidence in one bin.

    Attributes:
        pixels: Their number.
        confidence: Their mean confidence, or None without pixels.
        right: Their accuracy, or None without pixels.
    """

    pixels: int
    confidence: float | None
    right: float | None


@dataclass(frozen=True)
class Calibration:
    """How well the probabilities of one method agree with its accuracy.

    Attributes:
        ece: Calibration error, 0 to 1, or None without labelled pixels.
        bins: Confidence bins, from low to high.
        classes: Calibration error of the pixels predicted as each class; empty in older evaluations.
    """

    ece: float | None
    bins: tuple[ConfidenceBin, ...] = ()
    classes: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Risk:
    """How well the uncertainty of pixels predicts their errors.

    Attributes:
        pixels: Labelled pixels.
        error: Error rate; this and the following are None without pixels.
        aurc: Area under the risk-coverage curve: the error rate among the most certain pixels, averaged over all
            coverages. Equal to ``error`` if uncertainty is uninformative.
        aurc_best: Its best possible value, with every wrong pixel less certain than every correct one.
        found: Fraction of the errors among the 5 % least certain pixels, None without errors.
    """

    pixels: int
    error: float | None
    aurc: float | None
    aurc_best: float | None
    found: float | None

    def text(self) -> str:
        """Format the scores as one line, such as ``the 5 % least certain pixels hold 41 % of the errors; ...``."""
        held = NOT_APPLICABLE if self.found is None else f"{100 * self.found:.0f} %"
        aurc, best, error = map(fine_text, (self.aurc, self.aurc_best, self.error))
        return f"the 5 % least certain pixels hold {held} of the errors; AURC {aurc} (best {best}, by chance {error})"


@dataclass(frozen=True)
class UncertaintyScores:
    """Scores of one uncertainty measure over all test crops.

    Attributes:
        measure: ``disagreement`` of the members, or ``probability``: 1 minus the largest probability.
        whole: Over all labelled pixels.
        classes: Over the pixels predicted as each class.
        curve: Error rate among the most certain 5 %, 10 %, ... 100 % of all labelled pixels.
    """

    measure: str
    whole: Risk
    classes: tuple[Risk, ...]
    curve: tuple[float | None, ...]


@dataclass(frozen=True)
class MethodScores:
    """One row of the comparison: the ensemble or a baseline.

    Attributes:
        key: Short name in the file, such as ``ensemble``.
        title: Displayed name.
        train_s: Training time in seconds, or None if nothing is trained.
        predict_s: Prediction time of all test crops in seconds.
        classes: One entry per class of the class list.
        miou: Mean IoU over the classes with a defined IoU.
        confusion: (K, K) pixel counts, rows truth, columns prediction.
        slides: One entry per test slide.
        calibration: None for a method without probabilities.
        objects: By class with objects; empty in older evaluations.
        stains: One entry per stain that the recipe names.
        uncertainty: One entry per measure; empty in older evaluations.
        reference_miou: Mean IoU as in ``reference_miou`` of metrics/segmentation; None in older evaluations.
    """

    key: str
    title: str
    train_s: float | None
    predict_s: float | None
    classes: tuple[ClassScores, ...]
    miou: Score
    confusion: tuple[tuple[int, ...], ...]
    slides: tuple[SlideScores, ...]
    calibration: Calibration | None = None
    objects: Mapping[str, ObjectScores] = field(default_factory=dict)
    stains: tuple[StainScores, ...] = ()
    uncertainty: tuple[UncertaintyScores, ...] = ()
    reference_miou: float | None = None

    @property
    def ece(self) -> float | None:
        """Calibration error, 0 to 1, or None for a method without probabilities."""
        return None if self.calibration is None else self.calibration.ece


@dataclass(frozen=True)
class CropScores:
    """One test crop under the ensemble; ``disagreement`` is in nats, ``folder`` is below evaluation/.

    With ``from_prediction`` its truth was made by correcting a prediction.
    """

    crop: str
    slide: str
    miou: float | None
    iou: tuple[float | None, ...]
    disagreement: float | None
    folder: str
    from_prediction: bool = False


@dataclass(frozen=True)
class Evaluation:
    """Content of evaluation.json."""

    created: str
    recipe: str
    class_names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    train_crops: int
    test_crops: int
    test_slides: int
    methods: tuple[MethodScores, ...]
    crops: tuple[CropScores, ...]

    @property
    def corrected(self) -> int:
        """Number of test crops whose truth was corrected from a prediction."""
        return sum(crop.from_prediction for crop in self.crops)


def corrected_text(corrected: int, crops: int) -> str:
    """Warn that corrected test crops make the scores optimistic; empty if there are none.

    Args:
        corrected: Test crops whose truth was corrected from a prediction.
        crops: All test crops.
    """
    if not corrected:
        return ""
    return (
        f"{corrected} of {crops} test crops were corrected from a prediction: the parts left untouched agree "
        "with the model, so these scores are optimistic. Exclude them with labels.score_corrected=false."
    )


def share_text(value: float | None) -> str:
    """Format a fraction with two decimals, or ``n/a`` for None."""
    return NOT_APPLICABLE if value is None else f"{value:.2f}"


def fine_text(value: float | None) -> str:
    """Format a small fraction with four decimals, or ``n/a`` for None."""
    return NOT_APPLICABLE if value is None else f"{value:.4f}"


def row_shares(confusion: Sequence[Sequence[int]]) -> list[list[float | None]]:
    """Divide each row by its sum: the fraction of each true class predicted as each class.

    Args:
        confusion: (K, K) pixel counts, rows truth, columns prediction.

    Returns:
        (K, K) fractions, 0 to 1; None in an empty row.
    """
    return [[count / sum(row) if sum(row) else None for count in row] for row in confusion]


def column_shares(confusion: Sequence[Sequence[int]]) -> list[list[float | None]]:
    """Divide each column by its sum: the fraction of each predicted class that is each true class.

    Args:
        confusion: (K, K) pixel counts, rows truth, columns prediction.

    Returns:
        (K, K) fractions, 0 to 1; None in an empty column.
    """
    turned = row_shares(list(zip(*confusion, strict=True)))
    return [list(row) for row in zip(*turned, strict=True)]


def worst_first(crops: Sequence[CropScores], class_id: int | None = None) -> list[CropScores]:
    """Order crops from the lowest IoU to the highest; those without one come last.

    Args:
        crops: The crops of an evaluation.
        class_id: Sort by the IoU of this class, or by the mean IoU if None.

    Returns:
        The sorted crops; ties by id.
    """

    def place(crop: CropScores) -> tuple[bool, float, str]:
        value = crop.miou if class_id is None else crop.iou[class_id]
        return value is None, value or 0.0, crop.crop

    return sorted(crops, key=place)


def ensemble_of(evaluation: Evaluation) -> MethodScores | None:
    """Return the main method: the ensemble, otherwise the first one, or None if there is none."""
    named = [method for method in evaluation.methods if method.key == "ensemble"]
    return next(iter([*named, *evaluation.methods]), None)


def score_rows(evaluation: Evaluation) -> list[list[str]]:
    """Make one row of texts per method: title, mean IoU and each class's IoU, with intervals."""
    return [
        [method.title, method.miou.text(), *(scores.iou.text() for scores in method.classes)]
        for method in evaluation.methods
    ]


def risk_table(method: MethodScores, names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Make the table of error rate and uncertainty scores per predicted class.

    Args:
        method: A method with ``uncertainty``.
        names: Class names.

    Returns:
        The header, then one row of texts per class.
    """
    titles = [MEASURES[scores.measure] for scores in method.uncertainty]
    head = ["Predicted as", "Pixels", "Wrong", "ECE"]
    head += [f"{what}, by {title}" for title in titles for what in ("AURC", "Errors in the least certain 5 %")]
    rows = []
    of_classes = method.calibration.classes if method.calibration else ()
    for place, name in enumerate(names):
        risks = [scores.classes[place] for scores in method.uncertainty]
        ece = of_classes[place] if of_classes else None
        cells = [text for risk in risks for text in (fine_text(risk.aurc), share_text(risk.found))]
        rows.append([name, f"{risks[0].pixels:,}", fine_text(risks[0].error), fine_text(ece), *cells])
    return head, rows
