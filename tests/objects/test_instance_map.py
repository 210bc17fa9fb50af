from pathlib import Path

import numpy as np
import pytest

from cytoseg.geometry import Size
from cytoseg.maps import map_spool
from cytoseg.objects import instance_map
from cytoseg.objects.instance_map import Contacts, Painter


@pytest.mark.parametrize(
    ("waiting", "strip_px", "heights"), [(0, 10**6, [4, 4, 4, 4, 3]), (2**16, 27, [3, 1] * 4 + [3])]
)
def test_what_is_noted_is_painted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting: int, strip_px: int, heights: list[int]
) -> None:
    monkeypatch.setattr(map_spool, "STRIP_PX", strip_px)
    monkeypatch.setattr(instance_map, "LINE_ROWS", 4)
    monkeypatch.setattr(instance_map, "_PIECE_RUNS", 3)
    monkeypatch.setattr(instance_map, "_WAITING_RUNS", waiting)
    wanted = np.zeros((19, 9), np.uint32)
    painter = Painter(tmp_path, size=Size(9, 19))
    rng = np.random.default_rng(0)
    for number, (x, y) in enumerate([(0, 0), (5, 2), (1, 5), (3, 11)], start=1):
        mask = rng.random((6, 4)) < 0.7
        mask &= wanted[y : y + 6, x : x + 4] == 0
        painter.add(number, mask, x=x, y=y)
        wanted[y : y + 6, x : x + 4][mask] = number
    strips = list(painter.strips())
    assert [len(strip) for strip in strips] == heights
    np.testing.assert_array_equal(np.concatenate(strips), wanted)
    assert strips[0].dtype == np.uint32
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_has_left_is_not_painted(tmp_path: Path) -> None:
    """The last run is torn: what is added behind it would be read from the middle of a number on."""
    painter = Painter(tmp_path, size=Size(9, 5))
    painter.add(7, np.ones((2, 2), np.bool_), x=0, y=0)
    next(painter.strips())
    (left,) = tmp_path.iterdir()
    left.write_bytes(left.read_bytes()[:-5])
    again = Painter(tmp_path, size=Size(9, 5))
    again.add(1, np.ones((3, 2), np.bool_), x=4, y=1)
    wanted = np.zeros((5, 9), np.uint32)
    wanted[1:4, 4:6] = 1
    np.testing.assert_array_equal(np.concatenate(list(again.strips())), wanted)


def partners(ids: list[list[int]], first: set[int], second: set[int], *, rows: int) -> list[int]:
    return both_of(ids, first, second, rows=rows)[0]


def both_of(ids: list[list[int]], first: set[int], second: set[int], *, rows: int) -> tuple[list[int], list[bool]]:
    array = np.array(ids, np.uint32)
    numbers = range(int(array.max()) + 1)
    contacts = Contacts(np.array([n in first for n in numbers]), np.array([n in second for n in numbers]))
    seen = contacts.watch(array[top : top + rows] for top in range(0, len(array), rows))
    np.testing.assert_array_equal(np.concatenate(list(seen)), array)
    partner, several = contacts.partners()
    return partner.tolist(), several.tolist()


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_the_partner_is_the_one_with_the_longest_border(rows: int) -> None:
    ids = [
        [1, 2, 2, 2, 2],
        [1, 3, 2, 2, 2],
        [1, 3, 2, 0, 4],
        [0, 2, 2, 0, 0],
        [5, 0, 0, 4, 1],
    ]
    # 3 borders on 1 along two edges and on 2 along four; 4 on 1 and 2 along one each; 5 on nothing.
    wanted = ([0, 0, 0, 2, 1, 0], [False, False, False, True, True, False])
    assert both_of(ids, {3, 4, 5}, {1, 2}, rows=rows) == wanted


def test_corners_are_no_border() -> None:
    assert partners([[1, 0], [0, 2]], {1}, {2}, rows=1) == [0, 0, 0]


def test_a_nucleus_that_lies_in_cytoplasm_belongs_to_it() -> None:
    assert partners([[2, 2, 2, 3], [2, 1, 2, 3], [2, 2, 2, 3]], {1}, {2, 3}, rows=2) == [0, 2, 0, 0]


def test_without_objects_there_are_no_partners() -> None:
    partner, several = Contacts(np.zeros(1, np.bool_), np.zeros(1, np.bool_)).partners()
    assert (partner.tolist(), several.tolist()) == ([0], [False])
