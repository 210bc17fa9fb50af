import numpy as np
import pytest
from numpy.typing import NDArray

from cytoseg.objects.watershed import label_objects, split_touching


def discs(*places: tuple[float, float, float], size: tuple[int, int] = (40, 60)) -> NDArray[np.bool_]:
    """Filled circles of (x, y, radius)."""
    row, column = np.indices(size) + 0.5
    return np.any([(column - x) ** 2 + (row - y) ** 2 <= r**2 for x, y, r in places], axis=0)


@pytest.mark.parametrize(
    ("places", "count"),
    [
        ([(20, 20, 10)], 1),
        ([(15, 20, 10), (32, 20, 10)], 2),
        ([(15, 20, 10), (30, 20, 8)], 2),
        ([(15, 20, 5), (23.5, 20, 5)], 2),
        # Almost one and the same: no neck, no cut.
        ([(15, 20, 10), (19, 20, 10)], 1),
        ([(12, 20, 8), (26, 20, 8), (40, 20, 8)], 3),
    ],
)
def test_discs_are_cut_at_their_necks(places: list[tuple[float, float, float]], count: int) -> None:
    area = discs(*places)
    parts = split_touching(area, least_px=10)
    assert parts.max() == count
    np.testing.assert_array_equal(parts > 0, area)


def test_the_cut_goes_through_the_neck() -> None:
    parts = split_touching(discs((15, 20, 10), (32, 20, 10)), least_px=10)
    column = np.indices(parts.shape)[1] + 0.5
    # The neck lies half way between the centres, at 23.5.
    wrong = (parts == 1) & (column > 24.5) | (parts == 2) & (column < 22.5)
    assert not wrong.any()
    assert abs(int((parts == 1).sum()) - int((parts == 2).sum())) <= 20


@pytest.mark.parametrize("apart_px", [7, 8])
def test_a_shallow_neck_between_two_peaks_is_not_cut(apart_px: int) -> None:
    """At the neck the radius is less than half a pixel below that at the peaks."""
    assert split_touching(discs((15, 20, 10), (15 + apart_px, 20, 10)), least_px=10).max() == 1


def test_a_part_of_just_the_least_size_is_kept() -> None:
    area = discs((15, 20, 10), (30, 20, 8))
    assert np.bincount(split_touching(area, least_px=192).ravel()).tolist()[1:] == [310, 192]
    assert split_touching(area, least_px=193).max() == 1


def test_glass_beside_an_object_is_not_a_part_that_is_too_small() -> None:
    area = np.zeros((9, 20), np.bool_)
    area[:, :9] = area[:, 11:] = area[4] = True
    assert np.bincount(split_touching(area, least_px=82).ravel()).tolist()[1:] == [82, 82]


def test_an_ellipse_stays_whole() -> None:
    row, column = np.indices((40, 60)) + 0.5
    assert split_touching(((column - 30) / 24) ** 2 + ((row - 20) / 10) ** 2 <= 1, least_px=10).max() == 1


def test_a_part_that_is_too_small_goes_to_its_neighbour() -> None:
    area = discs((15, 20, 10), (32, 20, 10), (45.5, 20, 4.5))
    assert split_touching(area, least_px=10).max() == 3
    assert np.bincount(split_touching(area, least_px=100).ravel()).tolist()[1:] == [
        int((area & (np.indices(area.shape)[1] < 24)).sum()),
        int((area & (np.indices(area.shape)[1] >= 24)).sum()),
    ]


def test_where_every_part_would_be_too_small_nothing_is_cut() -> None:
    area = discs((15, 20, 10), (32, 20, 10))
    np.testing.assert_array_equal(split_touching(area, least_px=400), area)


def test_objects_of_a_crop_are_numbered_and_small_ones_dropped() -> None:
    mask = np.array([[1, 1, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1], [1, 1, 1, 0, 1]], np.bool_)
    labels = label_objects(mask, split=False, least_px=2)
    assert labels.tolist() == [[1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 2], [3, 3, 3, 0, 2]]


def test_objects_of_a_crop_are_cut_where_asked_for() -> None:
    mask = discs((15, 20, 10), (32, 20, 10), (52, 10, 5))
    assert label_objects(mask, split=False, least_px=10).max() == 2
    labels = label_objects(mask, split=True, least_px=10)
    assert labels.max() == 3
    np.testing.assert_array_equal(labels > 0, mask)


def test_no_object_in_an_empty_crop() -> None:
    assert label_objects(np.zeros((4, 4), np.bool_), split=True, least_px=1).max() == 0
