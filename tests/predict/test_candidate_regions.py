import math

import numpy as np
import pytest

from cytoseg.predict.candidate_regions import appearance_of, highest_tenth, most_uncertain_classes, without_ignored


def test_the_most_disputed_tenth_is_averaged() -> None:
    nats = np.zeros((4, 5), np.float32)
    nats[0, :3] = (0.6, 0.2, 0.1)
    assert highest_tenth(nats) == pytest.approx(0.4)  # 2 of 20 pixels
    assert highest_tenth(np.full((3, 3), 0.5, np.float32)) == 0.5


def test_glass_around_a_doubtful_cell_drowns_it_by_its_share_only() -> None:
    nats, ids = np.full((10, 10), 0.5, np.float32), np.full((10, 10), 255, np.uint8)
    ids[:1, :5] = 1
    assert highest_tenth(without_ignored(nats, ids)) == pytest.approx(0.25)


def test_the_classes_of_the_most_disputed_pixels_are_counted() -> None:
    nats, ids = np.zeros((4, 10), np.float32), np.zeros((4, 10), np.uint8)
    nats[0, :5] = (0.6, 0.5, 0.4, 0.3, 0.2)
    ids[0, :5] = (2, 2, 1, 2, 0)
    assert most_uncertain_classes(nats, ids, classes=3) == (0.0, 0.25, 0.75)
    nats[0, 1:] = 0
    assert most_uncertain_classes(nats, ids, classes=3) == (0.0, 0.0, 1.0)
    assert most_uncertain_classes(np.zeros_like(nats), ids, classes=3) == (0.0, 0.0, 0.0)


def test_looks_are_stain_and_classes() -> None:
    picture = np.full((2, 2, 3), 255, np.uint8)
    picture[0, :, 0] = 24
    ids = np.array([[0, 1, 1, 255]], np.uint8)
    found = appearance_of(picture, ids, classes=2)
    dense = math.log10(256 / 25)
    expected = (dense / 2, 0, 0, dense / 2, 0, 0, 1 / 3, 2 / 3)
    assert found == pytest.approx(expected, abs=1e-5)
