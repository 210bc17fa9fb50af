"""The result of an evaluation: what each method reached, by class, slide and crop."""

from collections.abc import Sequence
from dataclasses import dataclass

NOT_APPLICABLE = "n/a"
MEASURES = {"disagreement": "disagreement", "probability": "stated probability"}
"""Measures of uncertainty, and what people call them."""


@dataclass(frozen=True)
class Score:
    """A share between 0 and 1 with its 95 % interval; each part is None where it does not apply.

    Attributes:
        value: The share, or None for a class that stands neither in the truth nor in the prediction.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def text(self) -> str:
        """Write the score for people, such as ``0.62 (0.55-0.68)``, ``0.62`` or ``n/a``."""
        if self.value is None or self.low is None or self.high is None:
            return share_text(self.value)
        return f"{self.value:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True)
class ClassScores:
    """What one method reached on one class over all test crops; ``pixels`` counts the class in the truth."""

    name: str
    iou: Score
    dice: float | None
    precision: float | None
    recall: float | None
    pixels: int


@dataclass(frozen=True)
class ObjectScores:
    """How well the objects of one class were found over all test crops.

    The truth of a class map has no instances: its objects are connected areas, so two cells that touch are one of them.

    Attributes:
        name: Of the class.
        truth: True objects.
        predicted: Predicted objects.
        matched: Pairs with an IoU of .5 or more.
        precision: Share of the predicted objects that match; this and the following are None where nothing is divided.
        recall: Share of the true objects that match.
        f1: Harmonic mean of both.
        aji: Aggregated Jaccard index.
        pq: Panoptic quality, ``sq`` times ``rq``.
        sq: Mean IoU of the pairs.
        rq: The same as ``f1``.
    """

    name: str
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

    def text(self) -> str:
        """Write the scores as one line, such as ``nucleus: 37 of 40 found, 5 too many; F1 0.89, AJI 0.71, PQ 0.68``."""
        shares = ", ".join(f"{n} {share_text(v)}" for n, v in (("F1", self.f1), ("AJI", self.aji), ("PQ", self.pq)))
        return f"{self.name}: {self.matched} of {self.truth} found, {self.predicted - self.matched} false; {shares}"


@dataclass(frozen=True)
class SlideScores:
    """What one method reached on one slide; ``iou`` follows the class list."""

    slide: str
    crops: int
    miou: float | None
    iou: tuple[float | None, ...]


@dataclass(frozen=True)
class StainScores:
    """What one method reached on the slides of one stain; ``classes`` follows the class list."""

    stain: str
    slides: int
    miou: Score
    classes: tuple[ClassScores, ...]


@dataclass(frozen=True)
class ConfidenceBin:
    """The labelled pixels whose confidence lies in one interval.

    Attributes:
        pixels: Their number.
        confidence: Their mean confidence, or None without pixels.
        right: The share of them that is predicted rightly, or None without pixels.
    """

    pixels: int
    confidence: float | None
    right: float | None


@dataclass(frozen=True)
class Risk:
    """How well the uncertainty of some pixels says which of them are wrong.

    Attributes:
        pixels: Labelled pixels.
        error: Fraction wrong; this and the following are None where there is no pixel.
        aurc: Area under the risk-coverage curve: the mean, over all numbers of most certain pixels, of the share of
            them that is wrong. As high as ``error`` where uncertainty says nothing.
        aurc_best: The same if every wrong pixel were less certain than every right one.
        found: Share of the errors that lie in the 5 % least certain pixels, None where there is no error.
    """

    pixels: int
    error: float | None
    aurc: float | None
    aurc_best: float | None
    found: float | None

    def text(self) -> str:
        """Write the scores as one line, such as ``the 5 % least certain pixels hold 41 % of the errors; ...``."""
        held = NOT_APPLICABLE if self.found is None else f"{100 * self.found:.0f} %"
        aurc, best, error = map(fine_text, (self.aurc, self.aurc_best, self.error))
        return f"the 5 % least certain pixels hold {held} of the errors; AURC {aurc} (best {best}, by chance {error})"


@dataclass(frozen=True)
class UncertaintyScores:
    """What one measure of uncertainty is worth over all test crops.

    Attributes:
        measure: ``disagreement`` of the members, or ``probability``: how far the largest one is from 1.
        whole: Of all labelled pixels.
        classes: Of the pixels predicted as each class of the class list.
        curve: Share of errors in the most certain 5 %, 10 %, ... 100 % of all labelled pixels.
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
        title: Name for people.
        train_s: Training time in seconds, or None where nothing is trained.
        predict_s: Prediction time of all test crops in seconds.
        classes: One entry per class of the class list.
        miou: Mean IoU over the classes that apply.
        confusion: (K, K) pixel counts, rows truth, columns prediction.
        slides: One entry per test slide.
        ece: Calibration error, 0 to 1, or None for a method without probabilities.
        objects: One entry per class with objects; none in evaluations from before objects were matched.
        stains: One entry per stain that the recipe names.
        bins: Of the confidence, from low to high; none for a method without probabilities.
        class_ece: Calibration error of the pixels predicted as each class; none where it was not measured.
        uncertainty: One entry per measure; none in evaluations from before it was scored.
    """

    key: str
    title: str
    train_s: float | None
    predict_s: float | None
    classes: tuple[ClassScores, ...]
    miou: Score
    confusion: tuple[tuple[int, ...], ...]
    slides: tuple[SlideScores, ...]
    ece: float | None = None
    objects: tuple[ObjectScores, ...] = ()
    stains: tuple[StainScores, ...] = ()
    bins: tuple[ConfidenceBin, ...] = ()
    class_ece: tuple[float | None, ...] = ()
    uncertainty: tuple[UncertaintyScores, ...] = ()


@dataclass(frozen=True)
class CropScores:
    """One test crop under the ensemble; ``disagreement`` is in nats, ``folder`` stands below evaluation/.

    The truth of one that is ``from_prediction`` was made by correcting a prediction.
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
    """Everything that evaluation.json holds."""

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
        """How many test crops have a truth that was corrected from a prediction."""
        return sum(crop.from_prediction for crop in self.crops)


def corrected_text(corrected: int, crops: int) -> str:
    """Say how many test crops flatter the model; nothing if none does.

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
    """Write a share with two decimals, or ``n/a`` for None."""
    return NOT_APPLICABLE if value is None else f"{value:.2f}"


def fine_text(value: float | None) -> str:
    """Write a share that may be small with four decimals, or ``n/a`` for None."""
    return NOT_APPLICABLE if value is None else f"{value:.4f}"


def row_shares(confusion: Sequence[Sequence[int]]) -> list[list[float | None]]:
    """Divide each row by its sum: of the pixels that truly are a class, the share predicted as each class.

    Args:
        confusion: (K, K) pixel counts, rows truth, columns prediction.

    Returns:
        (K, K) shares, 0 to 1; None throughout an empty row.
    """
    return [[count / sum(row) if sum(row) else None for count in row] for row in confusion]


def column_shares(confusion: Sequence[Sequence[int]]) -> list[list[float | None]]:
    """Divide each column by its sum: of the pixels predicted as a class, the share that truly is each class.

    Args:
        confusion: (K, K) pixel counts, rows truth, columns prediction.

    Returns:
        (K, K) shares, 0 to 1; None throughout an empty column.
    """
    turned = row_shares(list(zip(*confusion, strict=True)))
    return [list(row) for row in zip(*turned, strict=True)]


def worst_first(crops: Sequence[CropScores], class_id: int | None = None) -> list[CropScores]:
    """Order crops from the lowest IoU to the highest; those without a value come last.

    Args:
        crops: The crops of an evaluation.
        class_id: Order by the IoU of this class, or by the mean over classes if None.

    Returns:
        The same crops; equal ones in the order of their ids.
    """

    def place(crop: CropScores) -> tuple[bool, float, str]:
        value = crop.miou if class_id is None else crop.iou[class_id]
        return value is None, value or 0.0, crop.crop

    return sorted(crops, key=place)


def ensemble_of(evaluation: Evaluation) -> MethodScores | None:
    """Return the method that the report is about: the ensemble, else the first one, or None if there is none."""
    named = [method for method in evaluation.methods if method.key == "ensemble"]
    return next(iter([*named, *evaluation.methods]), None)


def score_rows(evaluation: Evaluation) -> list[list[str]]:
    """Make one row of texts per method: title, mean IoU and each class's IoU, with intervals."""
    return [
        [method.title, method.miou.text(), *(scores.iou.text() for scores in method.classes)]
        for method in evaluation.methods
    ]


def risk_table(method: MethodScores, names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Tell of the pixels predicted as each class how many are wrong and whether that is known.

    Args:
        method: One with ``uncertainty``.
        names: Of the classes.

    Returns:
        The head, then one row of texts per class.
    """
    titles = [MEASURES[scores.measure] for scores in method.uncertainty]
    head = ["Predicted as", "Pixels", "Wrong", "ECE"]
    head += [f"{what}, by {title}" for title in titles for what in ("AURC", "Errors in the least certain 5 %")]
    rows = []
    for place, name in enumerate(names):
        risks = [scores.classes[place] for scores in method.uncertainty]
        ece = method.class_ece[place] if method.class_ece else None
        cells = [text for risk in risks for text in (fine_text(risk.aurc), share_text(risk.found))]
        rows.append([name, f"{risks[0].pixels:,}", fine_text(risks[0].error), fine_text(ece), *cells])
    return head, rows
