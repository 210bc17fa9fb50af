"""The maps that ``predict`` writes, opened as napari opens them and parsed by ome-types."""

import fnmatch
import importlib
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from ruamel.yaml import YAML

from cytoseg.classes import ClassList
from cytoseg.geometry import Size
from cytoseg.maps.map_spool import MapBand, MapSpool
from cytoseg.objects.settings import ObjectSettings
from cytoseg.predict.outputs import Destination, SlideFacts, write_outputs
from cytoseg.slides.open import open_slide
from cytoseg.slides.tiling import TileGrid

CLASSES = ClassList(("glass", "cell & more", "nucleus"), ((240, 240, 240), (86, 180, 233), (213, 94, 0)), "glass")
HEIGHT, WIDTH = 1200, 1040
BOXES = {1: (8, 16, 400, 300), 2: (600, 704, 120, 80), 3: (1000, 40, 160, 200)}
"""Top, left, height and width of each object, all divisible by 4: the third level is exact."""


def drawn(values: dict[int, int]) -> NDArray[np.uint32]:
    """Draw each box with its value, on 0."""
    found = np.zeros((HEIGHT, WIDTH), np.uint32)
    for number, (top, left, height, width) in BOXES.items():
        found[top : top + height, left : left + width] = values[number]
    return found


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a slide with three objects, and 16 rows that were not predicted."""
    made = tmp_path_factory.mktemp("made")
    size, ids = Size(WIDTH, HEIGHT), drawn({1: 1, 2: 2, 3: 1}).astype(np.uint8)
    ids[-16:] = 255
    spool = MapSpool(made, size=size)
    spool.write(MapBand(ids, np.full(ids.shape, 0.25, np.float32), np.full(ids.shape, 200, np.uint8)), x=0, y=0)
    spool.finish(HEIGHT)
    tifffile.imwrite(
        made / "slide.tif",
        np.full((HEIGHT, WIDTH, 3), 200, np.uint8),
        tile=(256, 256),
        resolution=(20_000, 20_000),
        resolutionunit="CENTIMETER",
    )
    folder = made / "slide"
    folder.mkdir()
    settings = ObjectSettings(("cell & more", "nucleus"), (), 16, "nucleus", "cell & more", False, False)
    with open_slide(made / "slide.tif") as slide:
        facts = SlideFacts(slide, TileGrid(size, 256, 64), 0.5, "", 0, 0.0, time.perf_counter())
        destination = Destination(folder, CLASSES, {}, settings, uncertainty_bits=8)
        write_outputs(folder, destination, facts=facts, spool=spool, on_row=lambda done, total: None)
    return folder


def opened(path: Path) -> tuple[Any, dict[str, Any], str]:
    """Open a file as napari does: the reader whose pattern fits, found by the manifest, gives the layer."""
    manifest = YAML(typ="safe").load((files("cytoseg") / "napari.yaml").read_text(encoding="utf-8"))["contributions"]
    (reader,) = manifest["readers"]
    assert any(fnmatch.fnmatch(str(path), pattern) for pattern in reader["filename_patterns"])
    (name,) = [command["python_name"] for command in manifest["commands"] if command["id"] == reader["command"]]
    module, _, function = name.partition(":")
    read = getattr(importlib.import_module(module), function)(str(path))
    (layer,) = read(str(path))
    found: tuple[Any, dict[str, Any], str] = layer
    return found


def test_napari_gets_the_class_map_as_labels_with_names_and_colours(predicted: Path) -> None:
    levels, options, kind = opened(predicted / "class_map.ome.tif")
    ids = drawn({1: 1, 2: 2, 3: 1})
    ids[-16:] = 255
    assert (kind, len(levels)) == ("labels", 3)
    for level, step in zip(levels, (1, 2, 4), strict=True):
        assert level.dtype == np.uint8
        assert_array_equal(np.asarray(level), ids[::step, ::step])
    levels[0].raster.close()
    assert options == {
        "name": "slide: classes",
        "multiscale": True,
        "scale": (0.5, 0.5),
        "units": ("um", "um"),
        "colormap": {
            None: (0.0, 0.0, 0.0, 0.0),
            0: (240 / 255, 240 / 255, 240 / 255, 1.0),
            1: (86 / 255, 180 / 255, 233 / 255, 1.0),
            2: (213 / 255, 94 / 255, 0.0, 1.0),
            255: (1.0, 1.0, 1.0, 1.0),
        },
        "features": {"index": [0, 1, 2, 255], "class": ["glass", "cell & more", "nucleus", "not predicted"]},
    }


def test_napari_gets_the_instance_map_as_labels_of_the_objects(predicted: Path) -> None:
    levels, options, kind = opened(predicted / "instances.ome.tif")
    assert (kind, len(levels)) == ("labels", 3)
    assert options == {"name": "slide: objects", "multiscale": True, "scale": (0.5, 0.5), "units": ("um", "um")}
    full = np.asarray(levels[0])
    # Which number each object has, and nothing beside the objects; the lowest one reaches the rows without prediction.
    numbers = {box: int(full[top + 4, left + 4]) for box, (top, left, _, _) in BOXES.items()}
    assert sorted(numbers.values()) == [1, 2, 3]
    for level, step in zip(levels, (1, 2, 4), strict=True):
        assert level.dtype == np.uint32
        assert_array_equal(np.asarray(level), drawn(numbers)[::step, ::step])
    levels[0].raster.close()


def test_ome_types_finds_names_classes_and_colours(predicted: Path) -> None:
    ome_types = pytest.importorskip("ome_types")
    ome = ome_types.from_tiff(predicted / "class_map.ome.tif")
    (image,) = ome.images
    assert (image.name, image.pixels.channels[0].name) == ("slide.tif: classes", "class id")
    assert (image.pixels.size_x, image.pixels.size_y, str(image.pixels.type.value)) == (WIDTH, HEIGHT, "uint8")
    assert (image.pixels.physical_size_x, image.pixels.physical_size_x_unit.value) == (0.5, "µm")
    values = {annotation.namespace: dict(annotation.value) for annotation in ome.structured_annotations}
    assert values == {
        "cytoseg/classes": {"0": "glass", "1": "cell & more", "2": "nucleus", "255": "not predicted"},
        "cytoseg/colours": {"0": "#f0f0f0", "1": "#56b4e9", "2": "#d55e00", "255": "#ffffff"},
    }
    assert {reference.id for reference in image.annotation_refs} == {a.id for a in ome.structured_annotations}
    objects = ome_types.from_tiff(predicted / "instances.ome.tif")
    assert (objects.images[0].name, objects.images[0].pixels.channels[0].name) == ("slide.tif: objects", "object id")
    assert objects.images[0].pixels.type.value == "uint32"


def test_every_level_of_the_class_map_has_the_colours(predicted: Path) -> None:
    with tifffile.TiffFile(predicted / "class_map.ome.tif") as tif:  # as QuPath shows it
        levels = tif.series[0].levels
        assert [level.shape for level in levels] == [(1200, 1040), (600, 520), (300, 260)]
        for step, level in zip((1, 2, 4), levels, strict=True):
            page = level.pages[0]
            colours = (np.asarray(page.colormap).T // 257)[page.asarray()]
            for row, column, wanted in ((0, 0, 0), (16, 24, 1), (620, 724, 2)):
                assert colours[row // step, column // step].tolist() == list(CLASSES.colours[wanted])
