import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from cytoseg.metrics.agreement import agreement, cohens_kappa
from cytoseg.metrics.counts import confusion_counts


def test_two_people_are_compared_pixel_by_pixel() -> None:
    first = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], np.uint8)
    second = np.array([[0, 0, 1, 0], [0, 1, 1, 1]], np.uint8)
    found = agreement(confusion_counts(first, second, 3))
    # Of 7 pixels 5 are alike. By chance: 4/7 * 4/7 + 3/7 * 3/7 = 25/49; (5/7 - 25/49) / (24/49) = 10/24.
    assert (found.pixels, found.same) == (7, 5 / 7)
    assert found.kappa == pytest.approx(10 / 24)
    assert found.iou == (3 / 5, 2 / 4, None)
    assert agreement(confusion_counts(second, first, 3)) == found


def test_kappa_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        first = rng.integers(0, 4, 200, dtype=np.uint8)
        second = np.where(rng.random(200) < rng.random(), first, rng.integers(0, 4, 200)).astype(np.uint8)
        counts = confusion_counts(first, second, 4)
        assert cohens_kappa(counts) == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


def test_kappa_is_one_zero_or_below() -> None:
    assert cohens_kappa(np.array([[5, 0], [0, 3]])) == 1
    assert cohens_kappa(np.array([[4, 2], [2, 1]])) == 0
    assert cohens_kappa(np.array([[0, 4], [4, 0]])) == -1


def test_kappa_of_more_pixels_than_eight_bytes_hold_squared() -> None:
    many = 10**10
    assert cohens_kappa(np.array([[many, 0], [0, many]])) == 1


def test_where_chance_alone_agrees_there_is_no_kappa() -> None:
    found = agreement(np.array([[9, 0], [0, 0]]))
    assert (found.same, found.kappa, found.iou) == (1.0, None, (1.0, None))


def test_of_nothing_nothing_is_said() -> None:
    found = agreement(np.zeros((2, 2), np.int64))
    assert (found.pixels, found.same, found.kappa, found.iou) == (0, None, None, (None, None))
