"""Resuming a slide prediction after errors, kills and Ctrl-C."""

import errno
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from filelock import FileLock
from numpy.typing import NDArray

from cytoseg.errors import PredictionError, SlideError
from cytoseg.geometry import Region, Size
from cytoseg.maps.map_spool import MapBand, MapSpool
from cytoseg.predict.outputs import Destination, is_done
from cytoseg.predict.slide import predict_slide
from cytoseg.slides.slide import Slide
from tests.predict.slide_parts import (
    SETTINGS,
    MakeSlide,
    cells,
    constant,
    everything,
    results,
    unwatched,
    wavy,
    with_objects,
)


# Tiles begin in rows 0, 6, 12, 18 and 21, which is less than an overlap below the one before.
@pytest.mark.parametrize("at", [1, 6, 9, 16, 20, 24])
def test_what_an_error_interrupts_goes_on_and_ends_in_the_same_bytes(
    make_slide: MakeSlide, destination: Destination, tmp_path: Path, at: int
) -> None:
    slide, tiles = make_slide(cells(29, 27), mpp=0.5), []
    destination = with_objects(destination)

    def failing(batch: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        if len(tiles) == at:
            raise RuntimeError("the power went")
        tiles.append(batch)
        return wavy(batch)

    whole = replace(destination, folder=tmp_path / "at_once" / "slide")
    predict_slide(slide, wavy, whole, settings=SETTINGS, tissue=None, on_progress=unwatched)
    with pytest.raises(RuntimeError, match="the power went"):
        predict_slide(slide, failing, destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    again: list[int] = []

    def counted(batch: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        again.append(len(batch))
        return wavy(batch)

    seen: list[int] = []
    predict_slide(
        slide,
        counted,
        destination,
        settings=SETTINGS,
        tissue=None,
        on_progress=lambda what, done, _total: seen.append(done) if what == "tiles" else None,
    )
    assert everything(destination.folder) == everything(whole.folder)
    assert len(everything(whole.folder)) == 7
    # Five tiles a row; only the rows of tiles with unfinished pixels are computed again.
    assert len(again) <= 25 - max(0, at // 5 - 2) * 5
    assert seen == list(range(25 - len(again), 26))
    assert [path.name for path in destination.folder.parent.iterdir()] == ["slide"]


def test_a_kill_after_half_a_write_costs_no_more_than_the_rows_it_hit(
    make_slide: MakeSlide, destination: Destination, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide, write, calls = make_slide(cells(29, 27)), MapSpool.write, []

    def torn(spool: MapSpool, band: MapBand, *, x: int, y: int) -> None:
        calls.append(y)
        if len(calls) == 13:  # in the third row of tiles
            half = MapBand(band.ids[:3, :2], band.uncertainty[:1], band.confidence[:0])
            write(spool, half, x=x, y=y)
            raise RuntimeError("killed")
        write(spool, band, x=x, y=y)

    monkeypatch.setattr(MapSpool, "write", torn)
    with pytest.raises(RuntimeError, match="killed"):
        predict_slide(slide, wavy, destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    assert calls[-1] == 12
    monkeypatch.setattr(MapSpool, "write", write)
    predict_slide(slide, wavy, destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    whole = replace(destination, folder=tmp_path / "at_once" / "slide")
    predict_slide(slide, wavy, whole, settings=SETTINGS, tissue=None, on_progress=unwatched)
    assert everything(destination.folder) == everything(whole.folder)


@pytest.mark.parametrize("at", ["_place", "_write_instances", "ObjectTotals"])
def test_a_kill_while_objects_are_written_ends_in_the_same_bytes(
    make_slide: MakeSlide, destination: Destination, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Before the first outline, when all outlines are there, and when all is there but the summary."""
    slide, destination = make_slide(cells(29, 27), mpp=0.5), with_objects(destination)
    part = destination.folder.with_name(".slide.part")

    def killed(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(f"cytoseg.objects.find_objects.{at}", killed)
        with pytest.raises(RuntimeError, match="killed"):
            predict_slide(slide, wavy, destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    assert (part / "objects.geojson").exists()
    assert (part / "cells.csv").exists() == (at == "ObjectTotals")
    predict_slide(slide, constant(float("nan")), destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    whole = replace(destination, folder=tmp_path / "at_once" / "slide")
    predict_slide(slide, wavy, whole, settings=SETTINGS, tissue=None, on_progress=unwatched)
    assert everything(destination.folder) == everything(whole.folder)
    assert len(everything(whole.folder)) == 7


def test_a_kill_while_results_are_written_keeps_the_maps(
    make_slide: MakeSlide, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = make_slide(cells(29, 27))

    def killed(*_: object, **__: object) -> None:
        part = destination.folder.with_name(".slide.part")
        (part / ".class_map.ome.tif.abc").mkdir()  # what the writing of a pyramid leaves
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("cytoseg.predict.outputs.draw_preview", killed)
        with pytest.raises(RuntimeError, match="killed"):
            predict_slide(slide, wavy, destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    predict_slide(slide, constant(float("nan")), destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    assert sorted(path.name for path in destination.folder.iterdir()) == [
        "class_map.ome.tif",
        "preview.png",
        "summary.json",
        "uncertainty.ome.tif",
    ]


def test_a_kill_before_the_renaming_costs_nothing(
    make_slide: MakeSlide, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = make_slide(cells(29, 27))

    def killed(_: MapSpool) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(MapSpool, "remove", killed)
        with pytest.raises(RuntimeError, match="killed"):
            predict_slide(slide, wavy, destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    predict_slide(slide, constant(float("nan")), destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    assert is_done(destination.folder, destination.provenance)
    assert len(list(destination.folder.iterdir())) == 4


def test_other_settings_start_over(make_slide: MakeSlide, destination: Destination) -> None:
    slide = make_slide(cells(29, 27))

    def press(_what: str, done: int, _total: int) -> None:
        if done == 20:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        predict_slide(slide, constant(1), destination, settings=SETTINGS, tissue=None, on_progress=press)
    changed = replace(destination, provenance={"bundle": "other"})
    predict_slide(slide, constant(0), changed, settings=SETTINGS, tissue=None, on_progress=unwatched)
    assert not results(destination.folder)[0].any()


def test_a_tile_that_cannot_be_read_is_named_and_finished_rows_are_kept(
    make_slide: MakeSlide, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = make_slide(cells(29, 27))
    read = type(slide).read_region

    def damaged(self: Slide, region: Region, level: int = 0) -> NDArray[np.uint8]:
        if (region.x, region.y) == (6, 18):
            raise SlideError("slide.png: is damaged.")
        return read(self, region, level)

    monkeypatch.setattr(type(slide), "read_region", damaged)
    wanted = (
        r"slide.png, tile at x 6, y 18 of level 0: slide.png: is damaged. 18 of 29 rows are finished and were kept."
    )
    with pytest.raises(SlideError, match=wanted):
        predict_slide(slide, wavy, destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    assert MapSpool(destination.folder.with_name(".slide.part"), size=Size(27, 29)).rows == 18


@pytest.mark.slow
def test_two_processes_do_not_write_the_same_slide(make_slide: MakeSlide, destination: Destination) -> None:
    slide = make_slide(cells(9, 9))
    destination.folder.parent.mkdir()
    with (
        FileLock(destination.folder.with_name(".slide.lock")),
        pytest.raises(PredictionError, match="slide: another process is writing it"),
    ):
        predict_slide(slide, wavy, destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    predict_slide(slide, wavy, destination, settings=SETTINGS, tissue=None, on_progress=unwatched)


def test_a_full_disk_is_reported_in_one_line(
    make_slide: MakeSlide, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tifffile.TiffWriter, "write", full)
    wanted = r"slide: cannot be written \(No space left on device\); finished work is kept"
    with pytest.raises(PredictionError, match=wanted) as raised:
        predict_slide(
            make_slide(cells(9, 9)), constant(1), destination, settings=SETTINGS, tissue=None, on_progress=unwatched
        )
    assert "\n" not in str(raised.value)
    assert [path.name for path in destination.folder.parent.iterdir()] == [".slide.part"]
