import numpy as np
import pytest

from cytoseg.slides.packed_mask import PackedMask


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 8), (5, 13), (40, 257)])
def test_places_are_counted_row_by_row(height: int, width: int) -> None:
    mask = np.random.default_rng(0).random((height, width)) < 0.3
    mask[0, 0], mask[height // 2] = True, height == 1  # also a row without any
    places = PackedMask.of(mask)
    flat = np.flatnonzero(mask)
    assert (places.height, places.width, places.count) == (height, width, len(flat))
    assert [places.nth(i) for i in range(len(flat))] == [divmod(int(place), width) for place in flat]
    assert places.share() == float(mask.mean())


def test_four_places() -> None:
    places = PackedMask.of(np.array([[False, True], [False, False], [True, True]]))
    assert [places.nth(i) for i in range(3)] == [(0, 1), (2, 0), (2, 1)]
    assert places.share() == 0.5


def test_a_mask_without_places() -> None:
    places = PackedMask.of(np.zeros((4, 4), np.bool_))
    assert (places.count, places.share()) == (0, 0.0)


def test_a_place_takes_little_more_than_a_bit() -> None:
    mask = np.ones((768, 1024), np.bool_)
    places = PackedMask.of(mask)
    assert (places.bits.nbytes, places.before.nbytes) == (mask.size // 8, 769 * 8)
