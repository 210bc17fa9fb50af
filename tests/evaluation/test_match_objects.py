import numpy as np

from cytoseg.classes import ClassList
from cytoseg.evaluation.match_objects import crop_objects
from cytoseg.metrics.objects import ObjectCounts
from cytoseg.objects.settings import ObjectSettings

CLASSES = ClassList(("glass", "cell", "nucleus"), ((240, 240, 240), (80, 180, 230), (210, 90, 0)), "glass")


def test_objects_are_matched_class_by_class() -> None:
    truth = np.array([[1, 1, 0, 2, 2], [1, 1, 0, 2, 2], [0, 0, 0, 0, 0]], np.uint8)
    found = np.array([[1, 1, 0, 1, 1], [1, 1, 0, 1, 1], [0, 0, 0, 0, 2]], np.uint8)
    settings = ObjectSettings(("cell", "nucleus"), (), 1, "nucleus", "cytoplasm")
    assert crop_objects(truth, found, classes=CLASSES, settings=settings) == {
        "cell": ObjectCounts(1, 2, 1, 1.0, 4, 8),
        "nucleus": ObjectCounts(1, 1, 0, 0.0, 0, 5),
    }


def test_only_predicted_objects_are_cut_apart() -> None:
    row, column = np.indices((40, 60)) + 0.5
    two = ((column - 15) ** 2 + (row - 20) ** 2 <= 100) | ((column - 32) ** 2 + (row - 20) ** 2 <= 100)
    ids = two.astype(np.uint8) * 2
    for split, predicted in (((), 1), (("nucleus",), 2)):
        settings = ObjectSettings(("nucleus",), split, 1, "nucleus", "cytoplasm")
        counts = crop_objects(ids, ids, classes=CLASSES, settings=settings)["nucleus"]
        assert (counts.truth, counts.predicted) == (1, predicted)


def test_small_areas_count_on_neither_side_and_ignored_ones_not_at_all() -> None:
    truth = np.array([[1, 0, 1, 1, 0, 255, 255]], np.uint8)
    found = np.array([[1, 0, 1, 1, 0, 1, 1]], np.uint8)
    settings = ObjectSettings(("cell",), (), 2, "nucleus", "cytoplasm")
    assert crop_objects(truth, found, classes=CLASSES, settings=settings)["cell"] == ObjectCounts(1, 1, 1, 1.0, 2, 2)
