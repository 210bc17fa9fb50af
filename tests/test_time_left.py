import pytest

from cytoseg.time_left import seconds_left, whole_time


@pytest.mark.parametrize(
    ("done", "total", "elapsed_s", "left"),
    [
        (9, 100, 9, None),
        (10, 100, 9, 81),
        (50, 100, 30, 30),
        (100, 100, 7, 0),
        (1, 3, 60, 120),
        (0, 0, 5, None),
        (0, 3, 5, None),
    ],
)
def test_the_rest_takes_as_long_as_the_pace_so_far_says(
    done: float, total: float, elapsed_s: float, left: float | None
) -> None:
    assert seconds_left(done, total, elapsed_s) == left


@pytest.mark.parametrize(
    ("seen", "total", "whole"),
    [
        ([(1, 2.0)], 100, None),  # the first unit warms up
        ([(1, 2.0), (4, 4.0)], 100, None),  # two seconds are too few
        ([(1, 2.0), (4, 5.0)], 100, 101.0),  # 2 s, and 99 units of 1 s
        ([(1, 12.0)], 10, 120.0),  # long units: the first is the measure
        ([(1, 12.0)], 200, None),  # a first step that is compiled
        ([(1, 12.0), (4, 15.0)], 200, 211.0),
        ([(16, 60.0)], 2_000_000, None),
    ],
)
def test_the_whole_time_is_estimated_from_the_first_units(
    seen: list[tuple[float, float]], total: float, whole: float | None
) -> None:
    assert whole_time(seen, total) == whole
