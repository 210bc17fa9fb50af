import numpy as np
import pytest

from cytoseg.errors import LabelError
from cytoseg.interpreter.threshold_baseline import fit_thresholds


def _grey(values: list[list[int]]) -> np.ndarray:
    return np.repeat(np.array(values, np.uint8)[..., None], 3, axis=2)


def test_each_density_takes_the_class_it_mostly_has_and_a_new_one_that_of_the_nearest() -> None:
    picture, labels = _grey([[250, 250, 120, 120, 120, 10]]), np.array([[0, 0, 1, 1, 0, 2]], np.uint8)
    fitted = fit_thresholds([picture], [labels], classes=3)
    np.testing.assert_array_equal(fitted.predict(_grey([[250, 120], [10, 2], [255, 100]])), [[0, 1], [2, 2], [0, 1]])
    assert fitted.predict(picture).dtype == np.uint8


def test_ignored_pixels_do_not_count() -> None:
    picture, labels = _grey([[250, 10, 10, 10]]), np.array([[0, 1, 255, 255]], np.uint8)
    np.testing.assert_array_equal(fit_thresholds([picture], [labels], classes=2).predict(picture), [[0, 1, 1, 1]])


def test_nothing_labelled_is_refused() -> None:
    with pytest.raises(LabelError, match="no pixel of the 1 training crops is labelled"):
        fit_thresholds([_grey([[1]])], [np.array([[255]], np.uint8)], classes=2)
