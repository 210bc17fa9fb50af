import fnmatch
import importlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from ruamel.yaml import YAML

from cytoseg.classes import ClassList
from cytoseg.errors import SlideError
from cytoseg.geometry import Size
from cytoseg.maps.metadata import about_classes, about_instances, about_uncertainty
from cytoseg.slides.pyramid import About, write_pyramid
from cytoseg.viewer.napari_layers import read_map, reader_of

CLASSES = ClassList(("glass & dust", "cell"), ((240, 240, 240), (255, 0, 51)), "glass & dust")
NAMES = ("class_map.ome.tif", "instances.ome.tif", "uncertainty.ome.tif")


def write(path: Path, pixels: np.ndarray, about: About, *, mpp: float | None = 0.5) -> Path:
    path.parent.mkdir(exist_ok=True)
    size = Size(pixels.shape[1], pixels.shape[0])
    write_pyramid(path, [pixels], size=size, mpp=mpp, categorical=pixels.dtype != np.float32, about=about)
    return path


def test_a_class_map_is_labels_of_all_levels_in_its_colours(tmp_path: Path) -> None:
    ids = np.kron([[0, 1, 1], [1, 0, 255]], np.ones((300, 300))).astype(np.uint8)
    path = write(tmp_path / "slide_01" / NAMES[0], ids, about_classes("s", CLASSES, {}, file="f"))
    ((levels, options, kind),) = read_map(str(path))
    assert kind == "labels"
    assert options == {
        "name": "slide_01: classes",
        "multiscale": True,
        "scale": (0.5, 0.5),
        "units": ("um", "um"),
        "colormap": {None: (0, 0, 0, 0), 0: (240 / 255,) * 3 + (1,), 1: (1, 0, 0.2, 1), 255: (1, 1, 1, 1)},
        "features": {"index": [0, 1, 255], "class": ["glass & dust", "cell", "not predicted"]},
    }
    assert [(level.shape, level.dtype, level.ndim, level.size) for level in levels] == [
        ((600, 900), np.uint8, 2, 540_000),
        ((300, 450), np.uint8, 2, 135_000),
    ]
    assert_array_equal(np.asarray(levels[0]), ids)
    assert_array_equal(levels[0][295:305, 10:700:100], ids[295:305, 10:700:100])
    assert_array_equal(levels[1][..., 449], ids[::2, 899])
    assert (levels[0][599, 899], len(levels[1])) == (255, 300)
    levels[0].raster.close()


def test_instances_are_labels_and_a_small_map_is_one_array(tmp_path: Path) -> None:
    ids = np.arange(12, dtype=np.uint32).reshape(3, 4) * 100_000
    path = write(tmp_path / "s" / NAMES[1], ids, about_instances("s", file="f"), mpp=None)
    ((data, options, kind),) = read_map(path)
    assert (kind, options) == ("labels", {"name": "s: objects", "multiscale": False})
    assert isinstance(data, np.ndarray)
    assert_array_equal(data, ids)


def test_the_uncertainty_is_an_image_in_nats(tmp_path: Path) -> None:
    levels = np.array([[0, 4], [8, 200]], np.uint8)
    path = write(tmp_path / "s" / NAMES[2], levels, about_uncertainty("s", 0.25, {}, file="f"))
    ((data, options, kind),) = read_map(path)
    assert (kind, options["colormap"]) == ("image", "magma")
    assert_array_equal(data, np.array([[0, 1], [2, 50]], np.float32))


def test_only_our_maps_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "s" / NAMES[1], np.zeros((2, 2), np.uint32), About())
    assert reader_of(str(path)) is read_map
    assert reader_of([str(path)]) is None
    assert reader_of(tmp_path / "s" / NAMES[0]) is None
    assert reader_of(write(tmp_path / "s" / "other.ome.tif", np.zeros((2, 2), np.uint8), About())) is None


def test_damaged_maps_are_reported(tmp_path: Path) -> None:
    wrong = About(notes={"cytoseg/colours": {"0": "#12345g"}})
    path = write(tmp_path / "s" / NAMES[0], np.zeros((2, 2), np.uint8), wrong)
    with pytest.raises(SlideError, match=r"^class_map\.ome\.tif: '#12345g' is not a colour\. Predict"):
        read_map(path)
    path.write_bytes(path.read_bytes().replace(b"</OME>", b"<<OME>"))
    with pytest.raises(SlideError, match=r"^class_map\.ome\.tif: cannot be read \(not well-formed"):
        read_map(path)


def test_napari_s_manifest_names_the_reader_and_its_files() -> None:
    manifest = YAML(typ="safe").load((files("cytoseg") / "napari.yaml").read_text(encoding="utf-8"))
    (command,), (reader,) = manifest["contributions"]["commands"], manifest["contributions"]["readers"]
    module, _, function = command["python_name"].partition(":")
    assert getattr(importlib.import_module(module), function) is reader_of
    assert reader["command"] == command["id"]
    assert [fnmatch.filter(NAMES, pattern) for pattern in reader["filename_patterns"]] == [[name] for name in NAMES]
