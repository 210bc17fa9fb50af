from pathlib import Path

import numpy as np
import pytest

from cytoseg.predict.maps import CONFIDENCE, IDS, UNCERTAINTY, MapBand, MapSpool


def band(height: int, width: int = 5, *, first: int = 0) -> MapBand:
    """Rows that count up, so that each pixel can be told from the others."""
    ids = np.arange(first * width, (first + height) * width, dtype=np.uint8).reshape(height, width)
    return MapBand(ids, ids.astype(np.float32) / 8, 255 - ids)


def test_what_is_appended_comes_back_in_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cytoseg.predict.maps.STRIP_ROWS", 3)
    spool = MapSpool(tmp_path, width=5)
    spool.append(band(4))
    spool.append(band(3, first=4))
    assert spool.rows == 7
    whole = band(7)
    assert [len(strip) for strip in spool.strips(IDS)] == [3, 3, 1]
    for name, values in ((IDS, whole.ids), (UNCERTAINTY, whole.uncertainty), (CONFIDENCE, whole.confidence)):
        np.testing.assert_array_equal(np.concatenate(list(spool.strips(name))), values)


@pytest.mark.parametrize(("x", "width"), [(0, 5), (2, 2), (4, 1)])
def test_a_window_is_the_part_of_the_map(tmp_path: Path, x: int, width: int) -> None:
    spool = MapSpool(tmp_path, width=5)
    spool.append(band(7))
    found = spool.window(UNCERTAINTY, x=x, y=2, width=width, height=4)
    np.testing.assert_array_equal(found, band(7).uncertainty[2:6, x : x + width])
    assert found.dtype == np.float32


def test_rows_are_those_that_every_map_has_and_the_rest_is_cut_off(tmp_path: Path) -> None:
    spool = MapSpool(tmp_path, width=5)
    spool.append(band(4))
    # Killed in the middle of an append: the first map has a row and a half more than the others.
    with (tmp_path / "ids.raw").open("ab") as file:
        file.write(b"1234567")
    assert spool.rows == 4
    spool.cut(3)
    spool.append(band(2, first=3))
    np.testing.assert_array_equal(np.concatenate(list(spool.strips(IDS))), band(5).ids)
    np.testing.assert_array_equal(np.concatenate(list(spool.strips(CONFIDENCE))), band(5).confidence)


def test_rows_that_are_not_there_cannot_be_kept(tmp_path: Path) -> None:
    spool = MapSpool(tmp_path, width=5)
    spool.cut(0)
    with pytest.raises(ValueError, match=r"ids.raw: holds 0 rows, fewer than 1"):
        spool.cut(1)


def test_removed_files_are_gone(tmp_path: Path) -> None:
    spool = MapSpool(tmp_path, width=5)
    spool.append(band(2))
    spool.remove()
    assert list(tmp_path.iterdir()) == []
    assert spool.rows == 0
