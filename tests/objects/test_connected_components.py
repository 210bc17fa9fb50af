import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from cytoseg.objects.connected_components import AREA, FoundAreas, connected_areas

NOT_GLASS = np.arange(256) != 0


def found_in(ids: NDArray[np.uint8], *, rows: int = 2, least_px: int = 1, line_px: int = 256) -> FoundAreas:
    strips = (ids[top : top + rows] for top in range(0, len(ids), rows))
    return connected_areas(strips, width=ids.shape[1], wanted=NOT_GLASS, least_px=least_px, line_px=line_px)


def test_a_u_that_is_joined_in_the_last_row_is_one_area() -> None:
    ids = np.array([[1, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]], np.uint8)
    (area,) = found_in(ids, rows=1).kept
    assert area.tolist() == (1, 10, 0, 0, 4, 4)


def test_corners_connect_within_a_class_but_not_across() -> None:
    ids = np.array([[1, 2], [2, 1], [1, 0]], np.uint8)
    kept = found_in(ids, rows=1).kept
    assert kept[["class_id", "pixels", "seed"]].tolist() == [(1, 3, 0), (2, 2, 1)]


@pytest.mark.parametrize("seed", range(40))
def test_any_strips_find_what_labelling_the_whole_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 24, 2)
    ids = rng.integers(0, 3, size).astype(np.uint8)
    if seed % 2:
        ids[ndimage.gaussian_filter(rng.normal(size=size), 1) < 0] = 0
    found = found_in(ids, rows=int(rng.integers(1, 9)), least_px=3)
    wanted, small = [], [0, 0, 0]
    for class_id in (1, 2):
        labels, _ = ndimage.label(ids == class_id, np.ones((3, 3)))
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            pixels = np.flatnonzero(labels == number)
            if len(pixels) < 3:
                small[class_id] += len(pixels)
            else:
                wanted.append((class_id, len(pixels), pixels[0], columns.start, columns.stop, rows.stop))
    assert sorted(found.kept.tolist()) == sorted(wanted)
    assert found.dropped_px[:3].tolist() == small


def test_small_areas_are_counted_by_class() -> None:
    found = found_in(np.array([[1, 0, 2, 2, 0, 1, 0, 2, 2, 2]], np.uint8), least_px=3)
    assert found.kept["class_id"].tolist() == [2]
    assert found.dropped[:3].tolist() == [0, 2, 1]
    assert found.dropped_px[:3].tolist() == [0, 2, 2]


def test_areas_come_in_reading_order() -> None:
    ids = np.zeros((6, 6), np.uint8)
    # Of the first line (3 rows) the one on the left comes first, though the other begins higher.
    ids[0, 4], ids[2, 1], ids[3, 0], ids[5, 5] = 1, 2, 3, 4
    assert found_in(ids, line_px=3).kept["class_id"].tolist() == [2, 1, 3, 4]


def test_classes_that_are_not_wanted_are_passed_over() -> None:
    found = connected_areas(
        [np.array([[3, 7, 3]], np.uint8)], width=3, wanted=np.arange(256) == 7, least_px=1, line_px=4
    )
    assert found.kept["seed"].tolist() == [1]
    assert found.kept.dtype == AREA


def test_a_map_without_areas_has_none() -> None:
    assert len(found_in(np.zeros((3, 4), np.uint8)).kept) == 0
