"""Matching the objects of predicted class maps with those of the truth."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE, ClassList
from cytoseg.metrics.objects import ObjectCounts, object_counts, object_scores
from cytoseg.metrics.results import ObjectScores
from cytoseg.objects.settings import ObjectSettings
from cytoseg.objects.watershed import label_objects

OBJECT_COLUMNS = tuple(field.name for field in fields(ObjectScores) if field.name != "name")


def crop_objects(
    truth: NDArray[np.uint8], class_map: NDArray[np.uint8], *, classes: ClassList, settings: ObjectSettings
) -> dict[str, ObjectCounts]:
    """Count the objects of a crop and how they match, by class name.

    Predicted objects are those of a slide: connected areas, cut apart where the settings say so. Label maps know no
    instances, so true objects are connected areas: where annotated cells touch, cutting is held against the method.

    Args:
        truth: (H, W) ids, 255 for ignore.
        class_map: (H, W) predicted ids.
        classes: Names of the ids.
        settings: Which classes have objects; areas of fewer pixels than ``least_px`` are dropped on both sides.

    Returns:
        The counts of each class with objects.
    """
    ignored = truth == IGNORE
    counts = {}
    for name in settings.classes:
        class_id = classes.names.index(name)
        true = label_objects(truth == class_id, split=False, least_px=settings.least_px)
        found = label_objects(class_map == class_id, split=name in settings.split, least_px=settings.least_px)
        counts[name] = object_counts(true, found, ignored=ignored)
    return counts


def objects_record(counts: Mapping[str, ObjectCounts]) -> dict[str, dict[str, Any]]:
    """Return the scores of each class as JSON can hold them."""
    scores = {name: asdict(object_scores(name, entry)) for name, entry in counts.items()}
    return {name: {column: entry[column] for column in OBJECT_COLUMNS} for name, entry in scores.items()}
