from pathlib import Path

import numpy as np
import pytest

from cytoseg.classes import IGNORE, ClassList
from cytoseg.formats.sidecar import Origin
from cytoseg.geometry import Region, Size
from cytoseg.labels.index import CropName, LabelIndex, write_crop
from cytoseg.labels.original_annotation import OriginalAnnotation, write_original
from cytoseg.maps.raster import Raster
from cytoseg.slides.pyramid import halve, write_pyramid
from cytoseg.viewer.layers import (
    FAINTEST_NATS,
    ClassLayer,
    TruthLayer,
    UncertaintyLayer,
    brightest_nats,
    placed_crops,
)

CLASSES = ClassList(("glass", "cell"), ((240, 240, 240), (10, 20, 30)), "glass")


def _raster(path: Path, values: np.ndarray, *, categorical: bool) -> Raster:
    write_pyramid(path, [values], size=Size(values.shape[1], values.shape[0]), mpp=None, categorical=categorical)
    return Raster(path)


@pytest.fixture
def ids() -> np.ndarray:
    """(600, 800), areas of 7 px a side."""
    coarse = np.random.default_rng(1).integers(0, 2, (86, 115)).astype(np.uint8)
    return coarse.repeat(7, axis=0).repeat(7, axis=1)[:600, :800]


def test_a_class_layer_is_the_map_itself_at_full_size(tmp_path: Path, ids: np.ndarray) -> None:
    with _raster(tmp_path / "ids.ome.tif", ids, categorical=True) as raster:
        found = ClassLayer(raster, 1.0).values(Region(256, 300, 256, 200), Size(256, 200))
    np.testing.assert_array_equal(found, ids[300:500, 256:512])


def test_a_coarse_class_tile_takes_the_commonest_id(tmp_path: Path, ids: np.ndarray) -> None:
    with _raster(tmp_path / "ids.ome.tif", ids, categorical=True) as raster:
        found = ClassLayer(raster, 1.0).values(Region(0, 0, 800, 600), Size(400, 300))
    np.testing.assert_array_equal(found, halve(ids, categorical=True))


def test_a_coarser_class_map_is_enlarged_without_new_ids(tmp_path: Path, ids: np.ndarray) -> None:
    # The map has half the slide's resolution: each of its pixels is two of the slide's.
    with _raster(tmp_path / "ids.ome.tif", ids, categorical=True) as raster:
        found = ClassLayer(raster, 2.0).values(Region(1344, 1000, 256, 200), Size(256, 200))
    np.testing.assert_array_equal(found, ids.repeat(2, axis=0).repeat(2, axis=1)[1000:1200, 1344:1600])


def test_a_slide_a_fraction_wider_than_its_map_ends_as_the_map_ends(tmp_path: Path, ids: np.ndarray) -> None:
    with _raster(tmp_path / "ids.ome.tif", ids, categorical=True) as raster:
        found = ClassLayer(raster, 2.0).values(Region(1598, 0, 3, 4), Size(3, 4))
    np.testing.assert_array_equal(found, ids[[0, 0, 1, 1]][:, [799, 799, 799]])


def test_uncertainty_is_scaled_to_its_brightest_and_means_are_taken(tmp_path: Path) -> None:
    nats = np.random.default_rng(2).random((600, 800)).astype(np.float32)
    with _raster(tmp_path / "nats.ome.tif", nats, categorical=False) as raster:
        fine = UncertaintyLayer(raster, 1.0, 0.5).values(Region(0, 0, 256, 256), Size(256, 256))
        coarse = UncertaintyLayer(raster, 1.0, 0.5).values(Region(0, 0, 800, 600), Size(400, 300))
    np.testing.assert_array_equal(fine, np.rint(np.minimum(nats[:256, :256] / 0.5, 1) * 255))
    means = nats.reshape(300, 2, 400, 2).mean(axis=(1, 3))
    assert np.abs(coarse - np.minimum(means / 0.5, 1) * 255).max() <= 0.51


def test_the_ramp_ends_where_all_but_a_few_pixels_lie(tmp_path: Path) -> None:
    nats = np.full((400, 400), 0.25, np.float32)
    nats[0, 0] = 9
    with _raster(tmp_path / "nats.ome.tif", nats, categorical=False) as raster:
        assert brightest_nats(raster) == pytest.approx(0.25)
    with _raster(tmp_path / "even.ome.tif", nats * 0, categorical=False) as raster:
        assert brightest_nats(raster) == FAINTEST_NATS


def _index(folder: Path, maps: dict[str, np.ndarray], places: dict[str, Region | None]) -> LabelIndex:
    crops = []
    for crop, label_map in maps.items():
        picture = np.zeros((*label_map.shape, 3), np.uint8)
        name = CropName(crop, "s1", f"{crop}.json")
        crops.append(write_crop(folder, name, picture=picture, label_map=label_map, classes=CLASSES))
        if crop in places:
            write_original(folder, crop, OriginalAnnotation(Origin("s1", places[crop])))
    return LabelIndex(folder, CLASSES.names, tuple(crops))


def test_truth_lies_where_its_crops_were_cut(tmp_path: Path) -> None:
    first, second = np.ones((4, 4), np.uint8), np.zeros((2, 2), np.uint8)
    second[0, 0] = IGNORE
    places = {"a": Region(10, 20, 4, 4), "b": Region(12, 22, 4, 4)}  # b is half as fine, and overlaps a
    index = _index(tmp_path, {"a": first, "b": second}, places)
    layer = TruthLayer(placed_crops(index, "s1", Size(100, 100)))
    expected = np.full((40, 40), IGNORE, np.uint8)
    expected[20:24, 10:14] = 1
    expected[22:24, 14:16] = expected[24:26, 12:16] = 0
    np.testing.assert_array_equal(layer.values(Region(0, 0, 40, 40), Size(40, 40)), expected)
    np.testing.assert_array_equal(layer.values(Region(8, 16, 16, 16), Size(8, 8)), expected[17:33:2, 9:25:2])
    assert (layer.values(Region(50, 50, 20, 20), Size(20, 20)) == IGNORE).all()


def test_a_crop_that_is_the_whole_slide_needs_no_place(tmp_path: Path) -> None:
    index = _index(tmp_path, {"s1": np.ones((4, 6), np.uint8), "other": np.ones((4, 6), np.uint8)}, {"other": None})
    ((crop, region),) = placed_crops(index, "s1", Size(6, 4))
    assert (crop.crop, region) == ("s1", Region(0, 0, 6, 4))
    assert placed_crops(index, "s1", Size(7, 4)) == []
    assert placed_crops(index, "s2", Size(6, 4)) == []
