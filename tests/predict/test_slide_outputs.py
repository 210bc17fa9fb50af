"""Output files of a slide prediction."""

import csv
import errno
import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import tifffile
from numpy.typing import NDArray
from PIL import Image

from cytoseg.errors import SlideError
from cytoseg.maps.map_file import MapFile
from cytoseg.objects.settings import ObjectSettings
from cytoseg.predict.outputs import Destination, is_done
from cytoseg.predict.preview import draw_preview
from cytoseg.predict.slide import Predictor, predict_slide
from cytoseg.slides.open import open_slide
from tests.predict.slide_parts import (
    SETTINGS,
    MakeSlide,
    cells,
    constant,
    results,
    unwatched,
)


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
    assert [what for what, _, _ in seen] == ["tiles"] * 16 + ["objects"] * (len(seen) - 16)
    assert (seen[0], seen[16], seen[-1]) == (("tiles", 0, 15), ("objects", 0, 20), ("objects", 20, 20))
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


def test_outlines_can_be_zipped(make_slide: MakeSlide, destination: Destination, dark_is_cell: Predictor) -> None:
    pixels = np.full((20, 30), 255)
    pixels[5:9, 4:20] = 40
    wanted = replace(destination, objects=ObjectSettings(("cell",), (), 4, "nucleus", "cytoplasm", zip_outlines=True))
    slide = make_slide(pixels, mpp=0.5)
    predict_slide(slide, dark_is_cell, wanted, settings=SETTINGS, tissue=None, on_progress=unwatched)
    with zipfile.ZipFile(destination.folder / "objects.geojson.zip") as archive:
        (feature,) = json.loads(archive.read("objects.geojson"))["features"]
    assert feature["geometry"]["coordinates"] == [[[4, 5], [20, 5], [20, 9], [4, 9], [4, 5]]]
    assert not (destination.folder / "objects.geojson").exists()
    assert is_done(destination.folder, destination.provenance)
    (destination.folder / "objects.geojson.zip").unlink()
    assert not is_done(destination.folder, destination.provenance)
