import csv
import errno
import json
import math
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely.geometry
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.measure import regionprops

from cytoseg.classes import ClassList
from cytoseg.geometry import Size
from cytoseg.maps import map_spool
from cytoseg.maps.map_spool import MapBand, MapSpool
from cytoseg.objects import find_objects, instance_map, map_blocks
from cytoseg.objects.find_objects import write_objects
from cytoseg.objects.object_writer import SlideMaps
from cytoseg.objects.settings import ObjectSettings
from cytoseg.objects.watershed import label_objects
from cytoseg.slides.open import open_slide

CLASSES = ClassList(("glass", "cytoplasm", "nucleus"), ((240, 240, 240), (80, 180, 230), (210, 90, 0)), "glass")
SETTINGS = ObjectSettings(("cytoplasm", "nucleus"), ("nucleus",), 6, "nucleus", "cytoplasm")
FILES = ("objects.geojson", "cells.csv", "instances.ome.tif")


def cells(height: int = 90, width: int = 120) -> NDArray[np.uint8]:
    """Round cells at random, some over the edge; a few nuclei touch."""
    rng = np.random.default_rng(4)
    row, column = np.indices((height, width)) + 0.5
    ids = np.zeros((height, width), np.uint8)
    for x, y in rng.uniform((0, 0), (width, height), (14, 2)):
        for radius, shift, class_id in ((9, 0, 1), (4, 0, 2), (4, 6.5, 2)):
            if not shift or x < 60:
                ids[(column - x - shift) ** 2 + (row - y) ** 2 <= radius**2] = class_id
    ids[rng.random(ids.shape) < 0.01] = 2
    return ids


def maps_of(folder: Path, ids: NDArray[np.uint8], *, enlarge: int = 1, mpp: float | None = 0.5) -> SlideMaps:
    """Make maps, and a slide whose red is 10 times the class and whose every pixel is ``enlarge`` pixels wide."""
    folder.mkdir(exist_ok=True)
    size = Size(ids.shape[1], ids.shape[0])
    spool = MapSpool(folder, size=size)
    confidence = np.where(ids == 2, 204, 153).astype(np.uint8)
    spool.write(MapBand(ids, ids.astype(np.float32) / 8, confidence), x=0, y=0)
    picture = np.stack([ids * 10, np.full_like(ids, 100), np.full_like(ids, 255)], axis=2)
    Image.fromarray(picture.repeat(enlarge, axis=0).repeat(enlarge, axis=1)).save(folder / "slide.png")
    return SlideMaps(spool, open_slide(folder / "slide.png"), size, float(enlarge), mpp, CLASSES)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "cells.csv").open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def features_of(folder: Path) -> list[dict[str, object]]:
    return list(json.loads((folder / "objects.geojson").read_text(encoding="utf-8"))["features"])


def quiet(done: int, total: int) -> None:
    """Nobody watches."""


@pytest.mark.parametrize("small_steps", [False, True])
def test_the_slide_has_the_objects_of_its_whole_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_steps: bool
) -> None:
    if small_steps:
        monkeypatch.setattr(map_spool, "STRIP_PX", 360)
        monkeypatch.setattr(map_blocks, "_BLOCK_PX", 32)
        monkeypatch.setattr(map_blocks, "_MARGIN_PX", 8)
        monkeypatch.setattr(instance_map, "LINE_ROWS", 16)
        for module in (find_objects, map_blocks):
            monkeypatch.setattr(module, "LINE_PX", 16)
    ids = cells()
    totals = write_objects(tmp_path, maps_of(tmp_path, ids), settings=SETTINGS, on_row=quiet)
    instances = tifffile.imread(tmp_path / "instances.ome.tif")
    assert instances.dtype == np.uint32
    for class_id, split in ((1, False), (2, True)):
        wanted = label_objects(ids == class_id, split=split, least_px=6)
        found = np.where(ids == class_id, instances, 0)
        # The same objects, whatever their numbers.
        pairs = {(int(a), int(b)) for a, b in zip(wanted.ravel(), found.ravel(), strict=True) if a or b}
        assert len(pairs) == wanted.max() == len(np.unique(found)) - 1
        name = CLASSES.names[class_id]
        assert totals.classes[name].objects == wanted.max()
        assert totals.classes[name].pixels == np.count_nonzero(wanted)
        areas, _ = ndimage.label(ids == class_id, np.ones((3, 3)))
        assert totals.classes[name].dropped == (np.bincount(areas.ravel())[1:] < 6).sum()
    assert totals.classes["nucleus"].split == 2
    assert not list(tmp_path.glob("*.runs"))


def test_rows_outlines_and_instances_tell_the_same(tmp_path: Path) -> None:
    ids = cells()
    exact = replace(SETTINGS, exact_outlines=True)
    write_objects(tmp_path, maps_of(tmp_path, ids), settings=exact, on_row=quiet)
    instances = tifffile.imread(tmp_path / "instances.ome.tif")
    regions = regionprops(instances.astype(np.int32))
    rows, features = rows_of(tmp_path), features_of(tmp_path)
    assert len(regions) == len(rows) == len(features) > 10
    for number, (region, row, feature) in enumerate(zip(regions, rows, features, strict=True), start=1):
        assert (region.label, row["id"]) == (number, str(number))
        (class_id,) = np.unique(ids[instances == number])
        assert row["class"] == CLASSES.names[class_id] == feature["properties"]["classification"]["name"]
        assert float(row["area_px"]) == region.area == feature["properties"]["measurements"]["area_px"]
        assert float(row["area_um2"]) == region.area / 4
        centre = (float(row["centroid_y_level0_px"]) - 0.5, float(row["centroid_x_level0_px"]) - 0.5)
        assert centre == pytest.approx(region.centroid)
        assert float(row["eccentricity"]) == pytest.approx(region.eccentricity, abs=1e-6)
        assert float(row["red_mean_8bit"]) == 10 * class_id
        assert float(row["confidence_mean"]) == pytest.approx(0.8 if class_id == 2 else 0.6)
        assert feature["properties"]["measurements"]["probability"] == pytest.approx(float(row["confidence_mean"]))
        assert float(row["uncertainty_mean_nats"]) == pytest.approx(class_id / 8)
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid
        assert shape.area == region.area
        assert (shape.centroid.y - 0.5, shape.centroid.x - 0.5) == pytest.approx(region.centroid)


def test_simplified_outlines_stay_close_to_the_instances(tmp_path: Path) -> None:
    write_objects(tmp_path, maps_of(tmp_path, cells()), settings=SETTINGS, on_row=quiet)
    regions = regionprops(tifffile.imread(tmp_path / "instances.ome.tif").astype(np.int32))
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in features_of(tmp_path)]
    for region, shape in zip(regions, shapes, strict=True):
        assert shape.is_valid
        assert shape.area == pytest.approx(region.area, rel=0.02)
        centre = (shape.centroid.y - 0.5, shape.centroid.x - 0.5)
        assert centre == pytest.approx(region.centroid, abs=0.2)


def test_objects_are_numbered_in_lines(tmp_path: Path) -> None:
    ids = np.zeros((300, 40), np.uint8)
    for y, x in ((20, 30), (30, 2), (270, 5)):
        ids[y : y + 3, x : x + 3] = 2
    write_objects(tmp_path, maps_of(tmp_path, ids), settings=SETTINGS, on_row=quiet)
    centres = [(row["centroid_x_level0_px"], row["centroid_y_level0_px"]) for row in rows_of(tmp_path)]
    assert centres == [("3.5", "31.5"), ("31.5", "21.5"), ("6.5", "271.5")]


def test_at_a_coarser_resolution_outlines_lie_in_level_0_pixels(tmp_path: Path) -> None:
    ids = np.zeros((20, 30), np.uint8)
    ids[4:9, 10:16] = 2
    write_objects(tmp_path, maps_of(tmp_path, ids, enlarge=3, mpp=1.5), settings=SETTINGS, on_row=quiet)
    (feature,), (row,) = features_of(tmp_path), rows_of(tmp_path)
    assert shapely.geometry.shape(feature["geometry"]).bounds == (30, 12, 48, 27)
    assert (row["centroid_x_level0_px"], row["centroid_x_um"]) == ("39", "19.5")
    assert (row["area_px"], row["area_um2"], row["red_mean_8bit"], row["red_sd_8bit"]) == ("30", "67.5", "20", "0")


def test_the_ratio_is_the_nucleus_over_the_cytoplasm_around_it(tmp_path: Path) -> None:
    ids = np.zeros((40, 40), np.uint8)
    ids[5:25, 5:25] = 1
    ids[10:15, 10:15] = 2
    ids[30:34, 30:34] = 2
    write_objects(tmp_path, maps_of(tmp_path, ids, mpp=None), settings=SETTINGS, on_row=quiet)
    cytoplasm, inside, alone = rows_of(tmp_path)
    ratio = pytest.approx(25 / 375)
    assert [float(row["nucleus_to_cytoplasm_ratio"]) for row in (cytoplasm, inside)] == [ratio] * 2
    assert (cytoplasm["nuclei"], inside["cytoplasm_id"], alone["nucleus_to_cytoplasm_ratio"]) == ("1", "1", "")
    assert alone["no_ratio_because"] == "no cytoplasm around this nucleus"
    assert float(alone["area_px"]) == 16
    assert "area_um2" not in alone
    assert "area_um2" not in features_of(tmp_path)[0]["properties"]["measurements"]


def test_nuclei_in_one_cytoplasm_share_it_by_distance(tmp_path: Path) -> None:
    ids = np.zeros((5, 16), np.uint8)
    ids[1:4, 1:4] = ids[1:4, 10:13] = 2
    ids[1:4, 4:10] = ids[1:4, 13:15] = 1
    ids[4, 1:15] = 1
    write_objects(tmp_path, maps_of(tmp_path, ids), settings=SETTINGS, on_row=quiet)
    rows = {(row["class"], row["centroid_x_level0_px"]): row for row in rows_of(tmp_path)}
    # Three columns of three pixels each side of the middle, two more behind the second, and the row below: 6 and 8.
    first, second = rows["nucleus", "2.5"], rows["nucleus", "11.5"]
    assert (first["cytoplasm_px"], second["cytoplasm_px"]) == (str(9 + 6), str(9 + 6 + 8))
    assert float(first["nucleus_to_cytoplasm_ratio"]) == pytest.approx(9 / 15)
    assert float(second["nucleus_to_cytoplasm_ratio"]) == pytest.approx(9 / 23)
    assert {row["cytoplasm_is"] for row in (first, second)} == {"nearest to this nucleus"}
    (clump,) = (row for row in rows_of(tmp_path) if row["class"] == "cytoplasm")
    assert (clump["nuclei"], clump["no_ratio_because"]) == ("2", "2 nuclei in one cytoplasm")


def test_a_sheet_is_counted_but_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_objects, "LARGEST_PX", 400)
    ids = np.zeros((30, 30), np.uint8)
    ids[0, :] = ids[:, 0] = 1
    ids[10:20, 10:20] = 1
    totals = write_objects(tmp_path, maps_of(tmp_path, ids), settings=SETTINGS, on_row=quiet)
    assert totals.record()["cytoplasm"] == {
        "objects": 1,
        "pixels": 100,
        "split": 0,
        "dropped": 0,
        "dropped_px": 0,
        "sheets": 1,
        "sheets_px": 59,
    }
    instances = tifffile.imread(tmp_path / "instances.ome.tif")
    assert np.count_nonzero(instances) == 100
    assert len(rows_of(tmp_path)) == len(features_of(tmp_path)) == 1


def test_only_named_classes_have_objects(tmp_path: Path) -> None:
    settings = replace(SETTINGS, classes=("nucleus",), split=())
    totals = write_objects(tmp_path, maps_of(tmp_path, cells()), settings=settings, on_row=quiet)
    assert list(totals.classes) == ["nucleus"]
    assert totals.classes["nucleus"].split == 0
    assert {row["class"] for row in rows_of(tmp_path)} == {"nucleus"}
    assert {row["nucleus_to_cytoplasm_ratio"] for row in rows_of(tmp_path)} == {""}


def test_the_same_maps_give_the_same_files(tmp_path: Path) -> None:
    ids = cells()
    for name in ("a", "b"):
        write_objects(tmp_path / name, maps_of(tmp_path / name, ids), settings=SETTINGS, on_row=quiet)
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_slide_without_objects_has_empty_files(tmp_path: Path) -> None:
    totals = write_objects(tmp_path, maps_of(tmp_path, np.zeros((20, 30), np.uint8)), settings=SETTINGS, on_row=quiet)
    assert totals.classes["nucleus"].objects == 0
    assert rows_of(tmp_path) == features_of(tmp_path) == []
    assert tifffile.imread(tmp_path / "instances.ome.tif").tolist() == [[0] * 30] * 20


def test_progress_counts_each_row_once_over_three_passes(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_objects(
        tmp_path, maps_of(tmp_path, cells()), settings=SETTINGS, on_row=lambda done, total: seen.append((done, total))
    )
    done = [rows for rows, _ in seen]
    assert {total for _, total in seen} == {90}
    assert done == sorted(set(done))
    assert done[-1] == 90


def test_a_full_disk_keeps_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tifffile.TiffWriter, "write", full)
    with pytest.raises(OSError, match="No space left on device"):
        write_objects(tmp_path, maps_of(tmp_path, cells()), settings=SETTINGS, on_row=quiet)


def test_circularity_tells_round_from_long(tmp_path: Path) -> None:
    ids = np.zeros((60, 90), np.uint8)
    row, column = np.indices(ids.shape) + 0.5
    ids[(column - 20) ** 2 + (row - 30) ** 2 <= 15**2] = 2
    ids[((column - 60) / 24) ** 2 + ((row - 30) / 6) ** 2 <= 1] = 2
    write_objects(tmp_path, maps_of(tmp_path, ids, mpp=1.0), settings=SETTINGS, on_row=quiet)
    disc, ellipse = rows_of(tmp_path)
    assert float(disc["circularity"]) > 0.97
    assert float(disc["equivalent_diameter_um"]) == pytest.approx(30, rel=0.01)
    assert float(disc["perimeter_um"]) == pytest.approx(30 * math.pi, rel=0.02)
    assert float(ellipse["eccentricity"]) == pytest.approx(math.sqrt(1 - 1 / 16), abs=0.003)
    assert float(ellipse["circularity"]) < 0.6


def test_memory_does_not_grow_with_the_height_of_the_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def peak(height: int) -> int:
        ids = np.zeros((height, 500), np.uint8)
        ids.reshape(-1, 100, 500)[:, 40:60, 200:220] = 2
        maps = maps_of(tmp_path / str(height), ids)
        # A PNG is held whole.
        monkeypatch.setattr(map_blocks, "read_at", lambda _, __, size: np.zeros((size.height, size.width, 3), np.uint8))
        tracemalloc.start()
        totals = write_objects(tmp_path / str(height), maps, settings=SETTINGS, on_row=quiet)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert totals.classes["nucleus"].objects == height // 100
        return most

    peak(1200)  # What is loaded once must not count.
    assert peak(4800) < 1.1 * peak(1200)
