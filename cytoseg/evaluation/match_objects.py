"""Matching predicted objects with true objects on test crops."""

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE, ClassList
from cytoseg.metrics.objects import ObjectCounts, object_counts
from cytoseg.objects.settings import ObjectSettings
from cytoseg.objects.watershed import label_objects


def crop_objects(
    truth: NDArray[np.uint8], class_map: NDArray[np.uint8], *, classes: ClassList, settings: ObjectSettings
) -> dict[str, ObjectCounts]:
    """Count the objects of a crop and their matches, by class name.

    Predicted objects are found as on a slide: connected components, split if the settings say so. Label maps have no
    instances, so true objects are connected components: where annotated cells touch, splitting counts as an error.

    Args:
        truth: (H, W) ids, 255 for ignore.
        class_map: (H, W) predicted ids.
        classes: Names of the ids.
        settings: Object settings; components of fewer pixels than ``least_px`` are dropped in both maps.

    Returns:
        Counts of each class with objects.
    """
    ignored = truth == IGNORE
    counts = {}
    for name in settings.classes:
        class_id = classes.names.index(name)
        true = label_objects(truth == class_id, split=False, least_px=settings.least_px)
        found = label_objects(class_map == class_id, split=name in settings.split, least_px=settings.least_px)
        counts[name] = object_counts(true, found, ignored=ignored)
    return counts
