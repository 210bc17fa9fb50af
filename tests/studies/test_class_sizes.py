import math

import numpy as np
import pytest

from cytoseg.studies.class_sizes import class_diameters


def test_half_of_the_pixels_lie_in_objects_at_least_as_large() -> None:
    ids = np.zeros((20, 20), np.uint8)
    ids[0:6, 0:6] = 1  # 36 px
    for x in range(8, 20, 2):
        ids[0, x] = 1  # six specks of one pixel
    ids[10:12, 10:13] = 2  # 6 px
    glass, cell, nucleus, never = class_diameters([ids], 4)
    assert cell == pytest.approx(2 * math.sqrt(36 / math.pi))
    assert nucleus == pytest.approx(2 * math.sqrt(6 / math.pi))
    assert glass == pytest.approx(2 * math.sqrt((400 - 36 - 6 - 6) / math.pi))
    assert never is None


def test_objects_of_two_crops_never_join() -> None:
    cell = np.ones((3, 3), np.uint8)
    assert class_diameters([cell, cell], 2)[1] == pytest.approx(2 * math.sqrt(9 / math.pi))


def test_objects_that_touch_by_a_corner_are_two() -> None:
    assert class_diameters([np.eye(2, dtype=np.uint8)], 2)[1] == pytest.approx(2 * math.sqrt(1 / math.pi))


def test_without_crops_no_class_has_a_size() -> None:
    assert class_diameters([], 2) == [None, None]
