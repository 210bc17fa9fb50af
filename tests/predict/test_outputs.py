import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from cytoseg.geometry import Size
from cytoseg.maps.map_spool import MapBand, MapSpool
from cytoseg.objects.settings import ClassTotals
from cytoseg.predict.finished_maps import CLASS_MAP
from cytoseg.predict.outputs import PREVIEW, add_up, is_done, left_out_of
from cytoseg.slides.pyramid import write_pyramid

PROVENANCE = {"bundle": "abc", "timesteps": (50, 100)}


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A folder as a finished prediction leaves it: a map of 4x2 px, an empty preview and the summary."""
    (tmp_path / PREVIEW).touch()
    _write_map(tmp_path / CLASS_MAP, Size(4, 2))
    summary = {"provenance": PROVENANCE, "files": [CLASS_MAP, PREVIEW], "size": [4, 2]}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    return tmp_path


def _write_map(path: Path, size: Size) -> None:
    write_pyramid(path, [np.ones((size.height, size.width), np.uint8)], size=size, mpp=None, categorical=True)


def test_a_slide_is_done_if_the_provenance_is_the_same(finished: Path) -> None:
    assert is_done(finished, PROVENANCE)
    assert not is_done(finished, {**PROVENANCE, "bundle": "abd"})
    assert not is_done(finished, {"bundle": "abc"})


def test_a_slide_is_not_done_if_anything_is_missing_or_damaged(finished: Path) -> None:
    assert not is_done(finished / "nowhere", PROVENANCE)
    (finished / "class_map.ome.tif").unlink()
    assert not is_done(finished, PROVENANCE)
    (finished / "class_map.ome.tif").touch()
    assert not is_done(finished, PROVENANCE)  # every command that reads it says: predict the slide again
    _write_map(finished / CLASS_MAP, Size(4, 3))
    assert not is_done(finished, PROVENANCE)
    _write_map(finished / CLASS_MAP, Size(4, 2))
    assert is_done(finished, PROVENANCE)
    for text in ('{"provenance": {"bu', "[]", "{}"):
        (finished / "summary.json").write_text(text)
        assert not is_done(finished, PROVENANCE)


@pytest.mark.parametrize(
    ("nucleus", "cell", "told"),
    [
        ((0, 0), (0, 0), ""),
        ((2, 0), (0, 0), "2 areas in rectangles of more than 4194304 px"),
        ((0, 1), (0, 0), "1 area of fewer than 16 px"),
        ((1, 3), (2, 4), "3 areas in rectangles of more than 4194304 px, 7 areas of fewer than 16 px"),
    ],
)
def test_areas_that_are_no_objects_are_counted_over_all_classes(
    tmp_path: Path, nucleus: tuple[int, int], cell: tuple[int, int], told: str
) -> None:
    found = {
        name: asdict(ClassTotals(objects=5, sheets=sheets, dropped=dropped))
        for name, (sheets, dropped) in (("nucleus", nucleus), ("cell", cell))
    }
    (tmp_path / "summary.json").write_text(json.dumps({"objects": found}))
    assert left_out_of(tmp_path, least_px=16) == told


@pytest.mark.parametrize("summary", [None, '{"obj', "[]", "{}", '{"objects": {"cell": {}}}'])
def test_areas_of_a_summary_without_them_are_not_reported(tmp_path: Path, summary: str | None) -> None:
    if summary is not None:
        (tmp_path / "summary.json").write_text(summary)
    assert left_out_of(tmp_path, least_px=16) == ""


def test_maps_are_added_up(tmp_path: Path) -> None:
    spool = MapSpool(tmp_path, size=Size(3, 3))
    nats = np.array([[0.5, 0.25, 0]], np.float32)
    spool.write(MapBand(np.array([[0, 1, 255]], np.uint8), nats, np.array([[200, 130, 0]], np.uint8)), x=0, y=0)
    ones = np.ones((2, 3), np.uint8)
    spool.write(MapBand(ones, np.full((2, 3), 0.125, np.float32), ones), x=0, y=1)
    totals = add_up(spool)
    assert {i: int(n) for i, n in enumerate(totals.pixels) if n} == {0: 1, 1: 7, 255: 1}
    assert (totals.computed, totals.uncertainty) == (8, 1.5)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_file_whose_name_cannot_be_one_is_not_there(finished: Path, name: str) -> None:
    (finished / "summary.json").write_text(json.dumps({"provenance": PROVENANCE, "files": [name]}))
    assert not is_done(finished, PROVENANCE)
