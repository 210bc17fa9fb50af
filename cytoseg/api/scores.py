"""API: scoring class maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytoseg.api.arguments import as_seed
from cytoseg.api.arrays import as_class_names, as_groups, as_label_map, as_label_maps, as_list
from cytoseg.api.bundle import Prediction
from cytoseg.errors import ArrayError
from cytoseg.metrics.counts import confusion_counts
from cytoseg.metrics.results import ClassScores, Score, SlideScores
from cytoseg.metrics.segmentation import pooled_scores, slide_scores


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of class maps against label maps.

    Attributes:
        classes: IoU with its 95 % interval over groups, Dice, precision, recall and pixels of each class.
        mean_iou: Mean over the classes that occur, with its interval; undefined parts are None.
        groups: Mean IoU and IoU per class for each group, by name; for each image in turn if there are none.
        confusion: (K, K) int64 pixels, rows truth, columns prediction.
    """

    classes: tuple[ClassScores, ...]
    mean_iou: Score
    groups: tuple[SlideScores, ...]
    confusion: NDArray[np.int64]

    def __repr__(self) -> str:
        scores = ", ".join(f"{entry.name!r}: {entry.iou.text()}" for entry in self.classes)
        return f"Evaluation(mean_iou={self.mean_iou.text()}, iou={{{scores}}}, groups={len(self.groups)})"


def evaluate(
    predictions: Sequence[Prediction | NDArray[np.integer]],
    label_maps: Sequence[NDArray[np.integer]],
    classes: Sequence[str],
    *,
    groups: Sequence[object] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Score class maps with counts pooled over all images; ignored pixels do not count.

    Args:
        predictions: From ``Bundle.predict``, or (H, W) class maps.
        label_maps: The ground truth, (H, W) class ids each, 255 for ignore.
        classes: Names of the classes, by id.
        groups: The slide of each image; the intervals are over groups. None treats each image as a group.
        seed: Seed of the intervals.

    Raises:
        ArrayError: If there is nothing to score, numbers or sizes differ, an id is beyond the classes, or these are not
            different names, or the seed is not a whole number from 0.
    """
    classes = as_class_names(classes)
    if isinstance(predictions, np.ndarray) and predictions.ndim == 3:
        predictions = list(predictions)
    maps = [
        found.class_map if isinstance(found, Prediction) else found
        for found in as_list(predictions, name="predictions")
    ]
    found = [as_label_map(each, classes=len(classes), name=f"predictions[{i}]") for i, each in enumerate(maps)]
    if not found:
        raise ArrayError("evaluate: there is nothing to score. Pass at least one prediction.")
    truth = as_label_maps(label_maps, found, len(classes))
    names = as_groups(groups, images=len(found)) or [str(i) for i in range(len(found))]
    by_group: dict[str, list[NDArray[np.int64]]] = {}
    for group, true, predicted in zip(names, truth, found, strict=True):
        by_group.setdefault(group, []).append(confusion_counts(true, predicted, len(classes)))
    tables = np.stack([np.sum(by_group[group], axis=0) for group in sorted(by_group)])
    scores, miou = pooled_scores(tables, classes, seed=as_seed(seed))
    by_name = slide_scores(by_group)
    ordered = by_name if groups is not None else tuple(sorted(by_name, key=lambda entry: int(entry.slide)))
    return Evaluation(scores, miou, ordered, tables.sum(axis=0))
