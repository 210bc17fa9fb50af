import math

import numpy as np
import pytest

from cytoseg.metrics.calibration import calibration_error, confidence_bins


def test_the_error_is_the_gap_between_confidence_and_truth() -> None:
    """Four pixels at 90 %, of which three are right; one at 60 %, wrong: (4 * .15 + 1 * .6) / 5."""
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]])
    bins = confidence_bins(probabilities, np.array([0, 0, 0, 1, 0]))
    assert bins.shape == (15, 3)
    np.testing.assert_allclose(bins[13], [4, 3.6, 3])
    np.testing.assert_allclose(bins[9], [1, 0.6, 0])
    assert bins.sum() == pytest.approx(4 + 3.6 + 3 + 1 + 0.6)
    assert calibration_error(bins) == pytest.approx((4 * 0.15 + 0.6) / 5)


def test_gaps_of_an_interval_cancel_and_of_two_do_not() -> None:
    half_right = confidence_bins(np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([0, 1]))
    assert calibration_error(half_right) == pytest.approx(0)
    apart = confidence_bins(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([1, 0]))
    assert calibration_error(apart) == pytest.approx((1 + 0.5) / 2)


def test_the_last_interval_holds_certainty() -> None:
    bins = confidence_bins(np.array([[1.0, 0.0], [0.05, 0.95], [0.07, 0.93]]), np.array([1, 1, 1]))
    assert bins.shape == (15, 3)
    np.testing.assert_allclose(bins[13:], [[1, 0.93, 1], [2, 1.95, 1]])


def test_crops_add_up_and_weights_repeat() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], 40)
    classes = rng.integers(0, 3, 40)
    whole = confidence_bins(probabilities, classes)
    parts = confidence_bins(probabilities[:13], classes[:13]) + confidence_bins(probabilities[13:], classes[13:])
    np.testing.assert_allclose(parts, whole)
    times = rng.integers(0, 4, 40)
    weighted = confidence_bins(probabilities, classes, weights=times.astype(float))
    np.testing.assert_allclose(weighted, confidence_bins(probabilities.repeat(times, 0), classes.repeat(times)))
    assert calibration_error(weighted) == pytest.approx(0.2589283)
    assert calibration_error(whole) == pytest.approx(0.2728363)


def test_calibrated_probabilities_have_no_error() -> None:
    rng = np.random.default_rng(1)
    sure = rng.uniform(0.5, 1, 200_000)
    classes = (rng.uniform(size=sure.size) > sure).astype(int)  # class 0 with the probability that is claimed
    assert calibration_error(confidence_bins(np.stack([sure, 1 - sure], axis=1), classes)) < 0.005


def test_without_a_pixel_there_is_no_error() -> None:
    assert math.isnan(calibration_error(confidence_bins(np.empty((0, 2)), np.empty(0, int))))
