import json

import pytest

from cytoseg.geometry import Level, Region, Size, best_level, downsample_of, overlap


def test_region_at_a_coarser_level_is_divided() -> None:
    assert Region(40, 80, 120, 16).at(4.0) == Region(10, 20, 30, 4)


def test_region_at_level_0_is_itself() -> None:
    assert Region(-3, 5, 7, 9).at(1.0) == Region(-3, 5, 7, 9)


def test_region_never_vanishes() -> None:
    assert Region(0, 0, 3, 1).at(16.0) == Region(0, 0, 1, 1)


@pytest.mark.parametrize(
    ("downsample", "level"),
    [
        (0.5, 0),  # enlarged: even level 0 is too coarse
        (1.0, 0),
        (1.9, 0),
        (2.0, 1),  # 2.01 counts as 2
        (4.0, 1),  # 4.2 does not count as 4
        (100.0, 2),
    ],
)
def test_best_level_is_the_coarsest_that_is_fine_enough(downsample: float, level: int) -> None:
    levels = [Level(Size(100, 80), 1.0), Level(Size(50, 40), 2.01), Level(Size(24, 20), 4.2)]
    assert best_level(levels, downsample) == level


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (Region(2, 1, 3, 3), Region(2, 1, 3, 3)),
        (Region(-2, -1, 5, 5), Region(0, 0, 3, 4)),
        (Region(8, 6, 5, 5), Region(8, 6, 2, 2)),
        (Region(-1, -1, 20, 20), Region(0, 0, 10, 8)),
        (Region(12, 2, 4, 4), Region(10, 2, 0, 4)),
        (Region(-9, 2, 4, 4), Region(0, 2, 0, 4)),
    ],
)
def test_overlap_is_the_part_on_the_area(inner: Region, expected: Region) -> None:
    assert overlap(inner, Size(10, 8)) == expected


@pytest.mark.parametrize(
    ("size", "downsample"),
    [(Size(53, 37), 1.0), (Size(26, 18), 2.0), (Size(27, 19), 2.0), (Size(13, 10), 4.0), (Size(35, 25), 1.4971)],
)
def test_downsample_is_a_whole_number_where_rounding_allows_it(size: Size, downsample: float) -> None:
    assert downsample_of(Size(53, 37), size) == pytest.approx(downsample, abs=1e-4)


def test_a_region_is_written_and_read_as_four_numbers() -> None:
    region = Region(-3, 4, 5, 6)
    assert region.as_json() == [-3, 4, 5, 6]
    assert Region.from_json(json.loads(json.dumps(region.as_json()))) == region


@pytest.mark.parametrize("value", [None, [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3.0, 4], [1, 2, True, 4], "1234", {"x": 1}])
def test_anything_else_is_no_region(value: object) -> None:
    with pytest.raises(ValueError, match=r"is not a region \[x, y, width, height\] in whole pixels"):
        Region.from_json(value)


@pytest.mark.parametrize("value", [[0, 0, 0, 4], [0, 0, 4, -1]])
def test_a_region_holds_something(value: list[int]) -> None:
    with pytest.raises(ValueError, match="is empty"):
        Region.from_json(value)
