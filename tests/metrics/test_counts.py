import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from cytoseg.metrics.counts import confusion_counts, counts_on_ignored

TRUTH = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)


def test_rows_are_truth_and_columns_prediction() -> None:
    prediction = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    counts = confusion_counts(TRUTH, prediction, 3)
    assert counts.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert counts.dtype == np.int64


def test_pixels_ignored_in_either_map_do_not_count() -> None:
    prediction = np.array([[255, 0, 255], [1, 2, 2]], np.uint8)
    assert confusion_counts(TRUTH, prediction, 3).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_predictions_on_ignored_pixels_are_counted_by_class() -> None:
    truth = np.array([[255, 255, 1], [255, 0, 255]], np.uint8)
    prediction = np.array([[2, 0, 2], [2, 1, 255]], np.uint8)
    assert counts_on_ignored(truth, prediction, 4).tolist() == [1, 0, 2, 0]


def test_all_ignored_counts_nothing() -> None:
    ignored = np.full((2, 2), 255, np.uint8)
    assert confusion_counts(ignored, ignored, 2).tolist() == [[0, 0], [0, 0]]


def test_equals_scikit_learn_with_more_pairs_than_eight_bits_hold() -> None:
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 30, (2, 64, 64), dtype=np.uint8)
    expected = confusion_matrix(truth.ravel(), prediction.ravel(), labels=range(30))
    np.testing.assert_array_equal(confusion_counts(truth, prediction, 30), expected)


def test_refuses_unequal_shapes() -> None:
    with pytest.raises(ValueError, match=r"truth has shape \(2, 3\), the prediction \(3, 2\)"):
        confusion_counts(TRUTH, TRUTH.T, 3)


@pytest.mark.parametrize(("name", "truth", "prediction"), [("truth", 3, 0), ("prediction", 255, 3)])
def test_refuses_ids_beyond_the_classes(name: str, truth: int, prediction: int) -> None:
    maps = (np.full((2, 2), value, np.uint8) for value in (truth, prediction))
    with pytest.raises(ValueError, match=rf"the {name} holds id 3, but there are 3 classes \(0 to 2\)"):
        confusion_counts(*maps, 3)


def test_refuses_negative_ids() -> None:
    with pytest.raises(ValueError, match="the prediction holds id -1"):
        confusion_counts(np.zeros((1, 1), np.int64), np.full((1, 1), -1), 2)
