import csv
import errno
import hashlib
import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import tifffile
import torch
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from cytoseg.classes import IGNORE
from cytoseg.errors import PredictionError, SlideError
from cytoseg.geometry import Region, Size
from cytoseg.maps.map_file import MapFile
from cytoseg.maps.map_spool import MapBand, MapSpool
from cytoseg.objects.settings import ObjectSettings
from cytoseg.predict.outputs import Destination, is_done
from cytoseg.predict.preview import draw_preview
from cytoseg.predict.slide import Predictor, SlideSettings, predict_slide
from cytoseg.slides.background import TissueMask
from cytoseg.slides.open import open_slide
from cytoseg.slides.slide import Slide
from cytoseg.slides.tiling import TileGrid

MakeSlide = Callable[..., Slide]
SETTINGS = SlideSettings(tile_px=8, overlap_px=2, batch=1, mpp=None, assume_mpp=None)


def unwatched(_what: str, _done: int, _total: int) -> None:
    """Nobody wants to know how far it is."""


def results(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32], dict[str, Any]]:
    class_map = tifffile.imread(folder / "class_map.ome.tif")
    uncertainty = tifffile.imread(folder / "uncertainty.ome.tif")
    return class_map, uncertainty, json.loads((folder / "summary.json").read_text())


def cells(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).choice(np.array([0, 40, 180, 255], np.uint8), (height, width))


def constant(probability: float) -> Predictor:
    def predict(tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        shape = tiles.shape[:3]
        cell = np.full(shape, probability, np.float32)
        return {
            "probabilities": np.stack([1 - cell, cell], axis=1),
            "disagreement": np.full(shape, 0.25, np.float32),
        }

    return predict


def test_a_constant_comes_out_constant(make_slide: MakeSlide, destination: Destination) -> None:
    slide = make_slide(cells(21, 30), mpp=0.5)
    predict_slide(slide, constant(0.75), destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    class_map, uncertainty, summary = results(destination.folder)
    np.testing.assert_array_equal(class_map, np.ones((21, 30), np.uint8))
    np.testing.assert_allclose(uncertainty, 0.25, rtol=0, atol=1e-6)
    assert summary.pop("seconds") >= summary.pop("computing_seconds") >= 0
    assert summary.pop("mean_disagreement") == pytest.approx(0.25)
    assert summary.pop("slide_sha256") == hashlib.sha256(slide.path.read_bytes()).hexdigest()
    assert summary.pop("versions")["numpy"] == np.__version__
    assert datetime.fromisoformat(summary.pop("made")) <= datetime.now(UTC)
    assert summary == {
        "format": 1,
        "slide": "slide.png",
        "slide_path": str(slide.path),
        "note": "taken at its full resolution of 0.5 µm per pixel, for the bundle says none",
        "bundle": {"labels": "def"},
        "size": [30, 21],
        "mpp": 0.5,
        "classes": {
            "background": {"pixels": 0, "share": 0.0, "area_um2": 0.0},
            "cell": {"pixels": 630, "share": 1.0, "area_um2": 157.5},
        },
        "ignored": 0,
        "tiles": 20,
        "glass_tiles": 0,
        "files": ["class_map.ome.tif", "uncertainty.ome.tif", "preview.png"],
        "provenance": {"bundle": "abc", "tile_px": 8},
    }
    assert sorted(p.name for p in destination.folder.iterdir()) == [
        "class_map.ome.tif",
        "preview.png",
        "summary.json",
        "uncertainty.ome.tif",
    ]


@pytest.mark.parametrize(("overlap_px", "batch"), [(0, 1), (3, 1), (4, 3), (2, 50)])
def test_tiled_equals_whole(
    make_slide: MakeSlide, destination: Destination, dark_is_cell: Predictor, overlap_px: int, batch: int
) -> None:
    pixels = cells(37, 53)
    settings = replace(SETTINGS, overlap_px=overlap_px, batch=batch)
    predict_slide(make_slide(pixels), dark_is_cell, destination, settings=settings, tissue=None, on_progress=unwatched)
    class_map, uncertainty, summary = results(destination.folder)
    np.testing.assert_array_equal(class_map, pixels < 128)
    np.testing.assert_allclose(uncertainty, pixels / 255, rtol=0, atol=1e-6)
    assert summary["classes"]["cell"]["pixels"] == int((pixels < 128).sum())
    assert summary["classes"]["cell"]["area_um2"] is None


def looks_around(tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
    """Two random 3 x 3 convolutions: each pixel's values depend on the 5 x 5 around it, and beyond a tile all is 0."""
    draws = torch.Generator().manual_seed(0)
    first, second = (torch.randn(shape, generator=draws) / 3 for shape in ((4, 3, 3, 3), (1, 4, 3, 3)))
    pictures = torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255
    hidden = torch.relu(functional.conv2d(pictures, first, padding=1))
    cell = torch.sigmoid(functional.conv2d(hidden, second, padding=1))
    return {"probabilities": torch.cat([1 - cell, cell], 1).numpy(), "disagreement": cell[:, 0].numpy()}


def test_what_is_predicted_in_tiles_is_what_is_predicted_whole(make_slide: MakeSlide, destination: Destination) -> None:
    """To 1e-5 where no tile's border is nearer than the predictor looks; at the seams to 0.05, half of it to 1e-3."""
    pixels, reach, settings = cells(120, 150), 2, replace(SETTINGS, tile_px=32, overlap_px=8, batch=3)
    slide = make_slide(pixels)
    predict_slide(slide, looks_around, destination, settings=settings, tissue=None, on_progress=unwatched)
    whole = looks_around(pixels[None, ..., None].repeat(3, axis=3))
    class_map, uncertainty, _ = results(destination.folder)
    near = np.zeros(pixels.shape, np.bool_)
    for row in TileGrid(Size(150, 120), 32, 8).rows():
        for tile in row:
            for edge in (tile.x, tile.x + 32):
                near[tile.y : tile.y + 32, max(0, edge - reach) : edge + reach] |= 0 < edge < 150
            for edge in (tile.y, tile.y + 32):
                near[max(0, edge - reach) : edge + reach, tile.x : tile.x + 32] |= 0 < edge < 120
    assert 0.3 < near.mean() < 0.7
    difference = np.abs(uncertainty - whole["disagreement"][0])
    assert difference[~near].max() < 1e-5
    assert 1e-3 < difference[near].max() < 0.05
    assert np.median(difference[near]) < 1e-3
    ids = whole["probabilities"][0].argmax(axis=0)
    np.testing.assert_array_equal(class_map[~near], ids[~near])
    assert 0 < (class_map != ids)[near].mean() < 0.01


def test_tiles_go_to_the_predictor_in_batches_and_are_counted(make_slide: MakeSlide, destination: Destination) -> None:
    batches, seen = [], []

    def predict(tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        batches.append(len(tiles))
        return constant(1.0)(tiles)

    settings = replace(SETTINGS, overlap_px=0, batch=2)
    predict_slide(
        make_slide(cells(16, 24)),
        predict,
        destination,
        settings=settings,
        tissue=None,
        on_progress=lambda _what, done, total: seen.append((done, total)),
    )
    assert batches == [2, 1, 2, 1]
    assert list(dict.fromkeys(seen)) == [(2, 6), (3, 6), (5, 6), (6, 6)]


def test_glass_is_not_computed(make_slide: MakeSlide, destination: Destination, dark_is_cell: Predictor) -> None:
    """A row of tiles at 0, 6, 12, 16: tissue from 20 on lies in the last only, whose pixels from 16 on are kept."""
    seen: list[tuple[int, int]] = []
    tissue = TissueMask(np.arange(24)[None].repeat(8, axis=0) >= 20, downsample=1.0)
    predict_slide(
        make_slide(np.zeros((8, 24))),
        dark_is_cell,
        destination,
        settings=SETTINGS,
        tissue=tissue,
        on_progress=lambda _what, done, total: seen.append((done, total)),
    )
    class_map, uncertainty, summary = results(destination.folder)
    np.testing.assert_array_equal(class_map, np.arange(24)[None].repeat(8, axis=0) >= 16)
    assert not uncertainty.any()
    assert (summary["tiles"], summary["glass_tiles"], summary["ignored"]) == (4, 3, 0)
    assert seen[-1] == (4, 4)


def test_the_mean_disagreement_is_that_of_computed_pixels(make_slide: MakeSlide, destination: Destination) -> None:
    settings = replace(SETTINGS, overlap_px=0)
    tissue = TissueMask(np.array([[True, False]]), downsample=8.0)
    predict_slide(
        make_slide(np.zeros((8, 16))), constant(1), destination, settings=settings, tissue=tissue, on_progress=unwatched
    )
    _, uncertainty, summary = results(destination.folder)
    np.testing.assert_array_equal(uncertainty[0], [0.25] * 8 + [0] * 8)
    assert summary["mean_disagreement"] == pytest.approx(0.25)


def test_glass_is_ignored_where_there_is_no_fill_class(make_slide: MakeSlide, destination: Destination) -> None:
    no_fill = replace(destination, classes=replace(destination.classes, fill=None))
    tissue = TissueMask(np.zeros((1, 1), np.bool_), downsample=16.0)
    predict_slide(
        make_slide(np.zeros((10, 16))), constant(1), no_fill, settings=SETTINGS, tissue=tissue, on_progress=unwatched
    )
    class_map, _, summary = results(destination.folder)
    np.testing.assert_array_equal(class_map, np.full((10, 16), IGNORE))
    assert (summary["ignored"], summary["mean_disagreement"]) == (160, None)


def test_a_slide_is_read_at_the_mpp_asked_for(
    make_slide: MakeSlide, destination: Destination, dark_is_cell: Predictor
) -> None:
    coarse = cells(9, 20)
    slide = make_slide(coarse.repeat(2, axis=0).repeat(2, axis=1), mpp=0.5)
    predict_slide(
        slide, dark_is_cell, destination, settings=replace(SETTINGS, mpp=1.0), tissue=None, on_progress=unwatched
    )
    class_map, _, summary = results(destination.folder)
    np.testing.assert_array_equal(class_map, coarse < 128)
    assert (summary["size"], summary["mpp"]) == ([20, 9], 1.0)
    assert summary["classes"]["cell"]["area_um2"] == int((coarse < 128).sum())


def test_an_assumed_mpp_serves_slides_that_do_not_say(make_slide: MakeSlide, destination: Destination) -> None:
    settings = replace(SETTINGS, mpp=1.0, assume_mpp=0.5)
    predict_slide(
        make_slide(cells(16, 16)), constant(1), destination, settings=settings, tissue=None, on_progress=unwatched
    )
    assert results(destination.folder)[2]["size"] == [8, 8]


def test_an_unknown_mpp_is_refused_when_one_is_asked_for(make_slide: MakeSlide, destination: Destination) -> None:
    with pytest.raises(SlideError, match="does not say its micrometres per pixel"):
        predict_slide(
            make_slide(cells(16, 16)),
            constant(1),
            destination,
            settings=replace(SETTINGS, mpp=1.0),
            tissue=None,
            on_progress=unwatched,
        )
    assert not destination.folder.parent.exists()


def test_a_slide_smaller_than_a_tile_is_filled_up_with_white(make_slide: MakeSlide, destination: Destination) -> None:
    tiles = []

    def predict(batch: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        tiles.append(batch)
        return constant(1)(batch)

    predict_slide(
        make_slide(np.zeros((3, 5))), predict, destination, settings=SETTINGS, tissue=None, on_progress=unwatched
    )
    expected = np.full((8, 8, 3), 255)
    expected[:3, :5] = 0
    np.testing.assert_array_equal(tiles, [[expected]])
    assert results(destination.folder)[0].shape == (3, 5)


def test_outputs_are_pyramids_with_a_physical_size(
    make_slide: MakeSlide, destination: Destination, dark_is_cell: Predictor
) -> None:
    settings = replace(SETTINGS, tile_px=256, overlap_px=32)
    slide = make_slide(np.full((300, 600), 51), mpp=0.25)
    predict_slide(slide, dark_is_cell, destination, settings=settings, tissue=None, on_progress=unwatched)
    for name, dtype, value in (("class_map", np.uint8, 1), ("uncertainty", np.float32, 0.2)):
        with tifffile.TiffFile(destination.folder / f"{name}.ome.tif") as tif:
            levels = tif.series[0].levels
            assert [level.shape for level in levels] == [(300, 600), (150, 300)]
            assert all(level.dtype == dtype and level.pages[0].is_tiled for level in levels)
            np.testing.assert_allclose(levels[1].asarray(), value, rtol=0, atol=1e-6)
            assert 'PhysicalSizeX="0.25"' in str(tif.ome_metadata)
    with open_slide(destination.folder / "class_map.ome.tif") as opened:
        assert opened.mpp == 0.25


def test_uncertainty_of_8_bits_holds_the_nats_to_half_a_grey_level(
    make_slide: MakeSlide, destination: Destination, dark_is_cell: Predictor
) -> None:
    slide = make_slide(cells(300, 600), mpp=0.25)
    settings = replace(SETTINGS, tile_px=256, overlap_px=32)
    folders = {}
    for bits in (8, 32):
        folders[bits] = destination.folder.with_name(f"bits{bits}")
        goal = replace(destination, folder=folders[bits], uncertainty_bits=bits)
        predict_slide(slide, dark_is_cell, goal, settings=settings, tissue=None, on_progress=unwatched)
    maps = {}
    for bits, folder in folders.items():
        with MapFile(folder / "uncertainty.ome.tif") as file:
            maps[bits] = file.read(0, 0, width=600, height=300)
    largest = maps[32].max()
    assert abs(maps[8] - maps[32]).max() <= largest / 255 / 2 * 1.001
    assert tifffile.imread(folders[8] / "uncertainty.ome.tif").dtype == np.uint8
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders.values()]
    assert summaries[0]["mean_disagreement"] == summaries[1]["mean_disagreement"]
    assert (folders[8] / "class_map.ome.tif").read_bytes() == (folders[32] / "class_map.ome.tif").read_bytes()


def test_a_slide_without_any_uncertainty_has_none_in_8_bits(make_slide: MakeSlide, destination: Destination) -> None:
    def sure(tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        found = dict(constant(0.75)(tiles))
        return found | {"disagreement": found["disagreement"] * 0}

    goal = replace(destination, uncertainty_bits=8)
    predict_slide(make_slide(cells(21, 30)), sure, goal, settings=SETTINGS, tissue=None, on_progress=unwatched)
    assert not tifffile.imread(goal.folder / "uncertainty.ome.tif").any()


def test_other_programs_open_the_maps(make_slide: MakeSlide, destination: Destination, dark_is_cell: Predictor) -> None:
    """OpenSlide takes the class map, but no TIFF of 32-bit values: the uncertainty is opened as Zarr."""
    openslide, zarr = pytest.importorskip("openslide"), pytest.importorskip("zarr")
    pixels = cells(300, 600)
    settings = replace(SETTINGS, tile_px=256, overlap_px=32)
    slide = make_slide(pixels, mpp=0.25)
    predict_slide(slide, dark_is_cell, destination, settings=settings, tissue=None, on_progress=unwatched)
    with openslide.OpenSlide(destination.folder / "class_map.ome.tif") as theirs:
        assert (theirs.dimensions, float(theirs.properties["openslide.mpp-x"])) == ((600, 300), 0.25)
        found = np.asarray(theirs.read_region((250, 200), 0, (300, 100)))[..., :3]
        colours = np.array(destination.classes.colours)
        np.testing.assert_array_equal(found, colours[(pixels[200:300, 250:550] < 128).astype(int)])
    with tifffile.imread(destination.folder / "uncertainty.ome.tif", aszarr=True) as store:
        levels = zarr.open_group(store, mode="r")
        assert [levels[name].shape for name in "01"] == [(300, 600), (150, 300)]
        found = levels["0"][200:300, 250:550]
    np.testing.assert_allclose(found, pixels[200:300, 250:550] / 255, rtol=0, atol=1e-6)


def test_the_preview_on_disk_is_the_picture_that_was_drawn(
    make_slide: MakeSlide, destination: Destination, dark_is_cell: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def draw(*args: Any, **kwargs: Any) -> Image.Image:
        drawn.append(draw_preview(*args, **kwargs))
        return drawn[-1]

    monkeypatch.setattr("cytoseg.predict.outputs.draw_preview", draw)
    slide = make_slide(cells(40, 60))
    predict_slide(slide, dark_is_cell, destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    with Image.open(destination.folder / "preview.png") as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", drawn[0].size)
        np.testing.assert_array_equal(np.array(picture), np.array(drawn[0]))


def test_a_slide_that_cannot_be_hashed_is_no_fault_of_the_results_disk(
    make_slide: MakeSlide, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Path) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("cytoseg.predict.outputs.slide_sha256", failing)
    with pytest.raises(
        SlideError, match=r"slide\.png: can no longer be read \(.*Input/output error\)\. Check its disk"
    ):
        predict_slide(
            make_slide(cells(9, 9)), constant(1), destination, settings=SETTINGS, tissue=None, on_progress=unwatched
        )


def test_a_failing_predictor_leaves_no_results(make_slide: MakeSlide, destination: Destination) -> None:
    def predict(tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        predict_slide(
            make_slide(cells(9, 9)), predict, destination, settings=SETTINGS, tissue=None, on_progress=unwatched
        )
    assert list(destination.folder.parent.iterdir()) == []


def test_ctrl_c_ends_after_the_batch_and_keeps_earlier_results(make_slide: MakeSlide, destination: Destination) -> None:
    slide = make_slide(cells(20, 20))
    predict_slide(slide, constant(1), destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    before = {p.name: p.read_bytes() for p in destination.folder.iterdir()}
    seen = []

    def press(_what: str, done: int, _total: int) -> None:
        seen.append(done)
        if done == 2:
            signal.raise_signal(signal.SIGINT)

    changed = replace(destination, provenance={"bundle": "other"})
    with pytest.raises(KeyboardInterrupt):
        predict_slide(slide, constant(0), changed, settings=SETTINGS, tissue=None, on_progress=press)
    assert seen == [1, 2]
    assert {p.name: p.read_bytes() for p in destination.folder.iterdir()} == before
    assert sorted(path.name for path in destination.folder.parent.iterdir()) == [".slide.part", "slide"]
    assert is_done(destination.folder, destination.provenance)

    predict_slide(slide, constant(0), changed, settings=SETTINGS, tissue=None, on_progress=unwatched)
    assert not results(destination.folder)[0].any()
    assert is_done(destination.folder, {"bundle": "other"})


def wavy(tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
    """What it says of a pixel depends on the pixel's place in the tile, so that seams show and blending is needed."""
    grey = tiles[..., 0] / np.float32(255)
    y, x = np.indices(grey.shape[1:])
    cell = np.clip(grey + np.float32(0.1) * np.sin(y + 2 * x).astype(np.float32), 0, 1)
    return {"probabilities": np.stack([1 - cell, cell], axis=1), "disagreement": cell * (1 - cell)}


def everything(folder: Path) -> dict[str, Any]:
    """All files as they are, but for the times in the summary, which no two runs share."""
    content: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
    summary = json.loads(content["summary.json"])
    return content | {
        "summary.json": {k: summary[k] for k in summary.keys() - {"made", "seconds", "computing_seconds"}}
    }


def with_objects(destination: Destination) -> Destination:
    return replace(destination, objects=ObjectSettings(("cell",), ("cell",), 4, "nucleus", "cytoplasm"))


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
    # Five tiles a row; no more is computed anew than the rows of tiles whose pixels were not all given.
    assert len(again) <= 25 - max(0, at // 5 - 2) * 5
    assert seen == list(range(25 - len(again) + 1, 26))
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


def test_other_settings_begin_anew(make_slide: MakeSlide, destination: Destination) -> None:
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
    wanted = r"slide.png, tile at x 6, y 18 of level 0: slide.png: is damaged. 18 of 29 rows are finished and kept."
    with pytest.raises(SlideError, match=wanted):
        predict_slide(slide, wavy, destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    assert MapSpool(destination.folder.with_name(".slide.part"), size=Size(27, 29)).rows == 18


def test_objects_are_found_after_the_tiles(
    make_slide: MakeSlide, destination: Destination, dark_is_cell: Predictor
) -> None:
    """Two cells, one across the seams of tiles; the third is too small."""
    pixels, seen = np.full((20, 30), 255), []
    pixels[5:9, 4:20] = pixels[12:16, 25:28] = pixels[18, 2] = 40
    with_objects = replace(destination, objects=ObjectSettings(("cell",), (), 4, "nucleus", "cytoplasm"))
    slide = make_slide(pixels, mpp=0.5)

    def watch(what: str, done: int, total: int) -> None:
        seen.append((what, done, total))

    predict_slide(slide, dark_is_cell, with_objects, settings=SETTINGS, tissue=None, on_progress=watch)
    summary = results(destination.folder)[2]
    found = summary["objects"]["cell"]
    assert (found["objects"], found["pixels"], found["dropped"], found["dropped_px"]) == (2, 64 + 12, 1, 1)
    instances = tifffile.imread(destination.folder / "instances.ome.tif")
    assert {number: int((instances == number).sum()) for number in (1, 2)} == {1: 64, 2: 12}
    features = json.loads((destination.folder / "objects.geojson").read_text())["features"]
    bounds = [shapely.geometry.shape(feature["geometry"]).bounds for feature in features]
    assert bounds == [(4, 5, 20, 9), (25, 12, 28, 16)]
    with (destination.folder / "cells.csv").open(newline="", encoding="utf-8-sig") as file:
        assert [float(row["area_um2"]) for row in csv.DictReader(file)] == [16, 3]
    assert [what for what, _, _ in seen] == ["tiles"] * 15 + ["objects"] * (len(seen) - 15)
    assert seen[-1] == ("objects", 60, 60)
    assert is_done(destination.folder, destination.provenance)
    (destination.folder / "cells.csv").unlink()
    assert not is_done(destination.folder, destination.provenance)


def test_the_table_is_written_as_parquet_too(
    make_slide: MakeSlide, destination: Destination, dark_is_cell: Predictor
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pixels = np.full((20, 30), 255)
    pixels[5:9, 4:20] = 40
    objects = ObjectSettings(("cell",), (), 4, "nucleus", "cytoplasm", parquet=True)
    wanted = replace(destination, objects=objects)
    slide = make_slide(pixels, mpp=0.5)
    predict_slide(slide, dark_is_cell, wanted, settings=SETTINGS, tissue=None, on_progress=unwatched)
    (row,) = parquet.read_table(destination.folder / "cells.parquet").to_pylist()
    assert (row["id"], row["class"], row["area_px"], row["area_um2"]) == (1, "cell", 64, 16.0)
    (destination.folder / "cells.parquet").unlink()
    assert not is_done(destination.folder, destination.provenance)


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
    wanted = r"slide: cannot be written \(No space left on device\); what is finished is kept"
    with pytest.raises(PredictionError, match=wanted) as raised:
        predict_slide(
            make_slide(cells(9, 9)), constant(1), destination, settings=SETTINGS, tissue=None, on_progress=unwatched
        )
    assert "\n" not in str(raised.value)
    assert [path.name for path in destination.folder.parent.iterdir()] == [".slide.part"]


@pytest.mark.parametrize(
    ("probabilities", "disagreement"), [((1, 3, 8, 8), (1, 8, 8)), ((1, 2, 4, 4), (1, 8, 8)), ((1, 2, 8, 8), (8, 8))]
)
def test_maps_of_another_shape_are_a_mistake_of_ours(
    make_slide: MakeSlide,
    destination: Destination,
    probabilities: tuple[int, ...],
    disagreement: tuple[int, ...],
) -> None:
    maps = {"probabilities": np.ones(probabilities, np.float32), "disagreement": np.ones(disagreement, np.float32)}
    with pytest.raises(ValueError, match="for 1 tiles of 8 px and 2 classes"):
        predict_slide(
            make_slide(cells(9, 9)), lambda _: maps, destination, settings=SETTINGS, tissue=None, on_progress=unwatched
        )


def test_numbers_that_are_not_finite_are_refused(make_slide: MakeSlide, destination: Destination) -> None:
    with pytest.raises(
        PredictionError, match=r"slide\.png: the prediction holds numbers that are not finite.*x 0, y 0"
    ):
        predict_slide(
            make_slide(cells(9, 9)),
            constant(float("nan")),
            destination,
            settings=SETTINGS,
            tissue=None,
            on_progress=unwatched,
        )


@pytest.mark.data
def test_a_real_scan(cytoseg_data: Path, destination: Destination, dark_is_cell: Predictor) -> None:
    settings = SlideSettings(tile_px=128, overlap_px=32, batch=4, mpp=2.0, assume_mpp=None)
    with open_slide(cytoseg_data / "wsi" / "CMU-1-Small-Region.svs") as slide:
        predict_slide(slide, dark_is_cell, destination, settings=settings, tissue=None, on_progress=unwatched)
    class_map, _, summary = results(destination.folder)
    assert class_map.shape == (740, 553)  # 2967 and 2220 pixels of 0.499 µm
    assert summary["mpp"] == 2.0
    assert 0.01 < summary["classes"]["cell"]["share"] < 0.9
