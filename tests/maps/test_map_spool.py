from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cytoseg.geometry import Size
from cytoseg.maps.map_spool import CONFIDENCE, IDS, UNCERTAINTY, MapBand, MapSpool

SIZE = Size(5, 7)
IDS_OF_ALL = np.arange(35, dtype=np.uint8).reshape(7, 5)


def part(rows: slice, columns: slice = slice(None)) -> MapBand:
    """A part of maps whose pixels count up, so that each can be told from the others."""
    ids = IDS_OF_ALL[rows, columns]
    return MapBand(ids, ids.astype(np.float32) / 8, 255 - ids)


@pytest.fixture
def spool(tmp_path: Path) -> MapSpool:
    """All of it, written in three parts in no order."""
    spool = MapSpool(tmp_path, size=SIZE)
    spool.write(part(slice(4, 7)), x=0, y=4)
    spool.write(part(slice(0, 4), slice(2, 5)), x=2, y=0)
    spool.write(part(slice(0, 4), slice(0, 2)), x=0, y=0)
    return spool


def test_what_is_written_in_parts_comes_back_in_strips(spool: MapSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cytoseg.maps.map_spool.STRIP_PX", 3 * SIZE.width + 2)
    whole = part(slice(None))
    assert [len(strip) for strip in spool.strips(IDS)] == [3, 3, 1]
    for name, values in ((IDS, whole.ids), (UNCERTAINTY, whole.uncertainty), (CONFIDENCE, whole.confidence)):
        np.testing.assert_array_equal(np.concatenate(list(spool.strips(name))), values)


@pytest.mark.parametrize(("x", "width"), [(0, 5), (2, 2), (4, 1)])
def test_a_window_is_the_part_of_the_map(spool: MapSpool, x: int, width: int) -> None:
    found = spool.window(UNCERTAINTY, x=x, y=2, width=width, height=4)
    np.testing.assert_array_equal(found, part(slice(2, 6), slice(x, x + width)).uncertainty)
    assert found.dtype == np.float32


def test_finished_rows_are_remembered_and_what_is_below_may_be_written_again(spool: MapSpool, tmp_path: Path) -> None:
    assert spool.rows == 0
    spool.finish(3)
    again = MapSpool(tmp_path, size=SIZE)
    assert again.rows == 3
    again.write(part(slice(0, 1)), x=0, y=5)
    np.testing.assert_array_equal(again.window(IDS, x=0, y=4, width=5, height=3), IDS_OF_ALL[[4, 0, 6]])


@pytest.mark.parametrize("said", [b"", b"x", b"-1", b"8", 5000 * b"9", b"\xff", b"3.5"])
def test_a_damaged_number_of_rows_counts_as_none(spool: MapSpool, tmp_path: Path, said: bytes) -> None:
    spool.finish(3)
    (tmp_path / "rows.txt").write_bytes(said)
    assert spool.rows == 0


@pytest.mark.parametrize("name", [IDS, UNCERTAINTY, CONFIDENCE])
def test_rows_whose_pixels_are_lost_are_not_finished(spool: MapSpool, tmp_path: Path, name: str) -> None:
    spool.finish(7)
    path = tmp_path / f"{name}.raw"
    path.write_bytes(path.read_bytes()[:-1])
    assert spool.rows == 0
    path.unlink()
    assert spool.rows == 0


def test_removed_files_are_gone(spool: MapSpool, tmp_path: Path) -> None:
    spool.finish(7)
    spool.remove()
    assert list(tmp_path.iterdir()) == []
    assert spool.rows == 0


def test_further_maps_are_kept_by_name(tmp_path: Path) -> None:
    spool, whole = MapSpool(tmp_path, size=SIZE, scores=("texture",)), part(slice(None))
    spool.write(replace(whole, scores={"texture": whole.uncertainty * 2}), x=0, y=0)
    np.testing.assert_array_equal(spool.window("texture", x=1, y=2, width=3, height=4), whole.uncertainty[2:6, 1:4] * 2)
    spool.remove()
    assert list(tmp_path.iterdir()) == []
