import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from cytoseg.classes import ClassList
from cytoseg.geometry import Size
from cytoseg.maps.map_file import MapFile
from cytoseg.maps.metadata import about_classes, about_instances, about_uncertainty
from cytoseg.slides.pyramid import About, write_pyramid

CLASSES = ClassList(("background", "a <b> & 'c'", "Zellkern µ"), ((240, 240, 240), (0, 128, 255), (213, 94, 0)), None)
SIZE = Size(1100, 600)
Write = Callable[[About, type], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a map of ids 0, 1, 2 in stripes, and 255 in the last rows."""

    def write(about: About, dtype: type) -> Path:
        values = (np.arange(SIZE.width) // 100 % 3)[None].repeat(SIZE.height, 0).astype(dtype)
        values[-200:] = 255
        path = tmp_path / "map.ome.tif"
        write_pyramid(path, [values], size=SIZE, mpp=0.5, categorical=True, about=about)
        return path

    return write


def xml_of(path: Path) -> str:
    with tifffile.TiffFile(path) as tif:
        return tif.ome_metadata or ""


def notes_of(path: Path) -> dict[str, dict[str, str]]:
    """Read the map annotations as any reader of OME-XML would: namespace to keys and values."""
    root = ElementTree.fromstring(xml_of(path))
    space = {"o": root.tag[1 : root.tag.index("}")]}
    image = root.find("o:Image", space)
    assert image is not None
    told = {reference.get("ID") for reference in image.findall("o:AnnotationRef", space)}
    found = {}
    for note in root.findall("o:StructuredAnnotations/o:MapAnnotation", space):
        assert note.get("ID") in told  # they belong to the image
        pairs = note.iterfind("o:Value/o:M", space)
        found[note.get("Namespace") or ""] = {pair.get("K") or "": pair.text or "" for pair in pairs}
    return found


def test_a_class_map_tells_its_classes_and_shows_their_colours(write: Write) -> None:
    path = write(about_classes("slide.svs", CLASSES, {"bundle": "x"}, file="class_map.ome.tif"), np.uint8)
    assert notes_of(path) == {
        "cytoseg/classes": {"0": "background", "1": "a <b> & 'c'", "2": "Zellkern µ", "255": "not predicted"},
        "cytoseg/colours": {"0": "#f0f0f0", "1": "#0080ff", "2": "#d55e00", "255": "#ffffff"},
    }
    with tifffile.TiffFile(path) as tif:
        levels = tif.series[0].levels
        assert [level.shape for level in levels] == [(600, 1100), (300, 550), (150, 275)]
        for level in levels:
            page = level.pages[0]
            assert (page.photometric.name, level.dtype) == ("PALETTE", np.dtype(np.uint8))
            shown = np.asarray(page.colormap).T[page.asarray()] // 257
            assert shown[0, 0].tolist() == [240, 240, 240]
            assert shown[0, 250 * shown.shape[1] // 1100].tolist() == [213, 94, 0]
            assert shown[-1, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("about", "dtype", "name", "channel", "notes"),
    [
        (about_classes("s", CLASSES, {}, file="c"), np.uint8, "s: classes", "class id", None),
        (
            about_instances("s", file="i"),
            np.uint32,
            "s: objects",
            "object id",
            {"0": "no object", "others": "numbers of the objects in cells.csv and objects.geojson"},
        ),
        (
            about_uncertainty("s", 0.001, {}, file="u"),
            np.uint8,
            "s: uncertainty",
            "uncertainty",
            {"nats_per_grey_level": "0.001"},
        ),
        (about_uncertainty("s", None, {}, file="u"), np.uint8, "s: uncertainty", "uncertainty", {"unit": "nat"}),
    ],
)
def test_every_map_has_a_name_and_a_channel(
    write: Write, about: About, dtype: type, name: str, channel: str, notes: dict[str, str] | None
) -> None:
    path = write(about, dtype)
    xml = xml_of(path)
    assert re.search(r'<Image ID="Image:0" Name="([^"]*)"', xml)[1] == name  # type: ignore[index]
    assert re.search(r'<Channel ID="Channel:0:0" SamplesPerPixel="1" Name="([^"]*)"', xml)[1] == channel  # type: ignore[index]
    if notes is not None:
        assert notes_of(path) == {"cytoseg/values": notes}


def test_ome_types_reads_all_of_it(write: Write) -> None:
    """The reader of napari and others, which holds the file against the schema."""
    ome_types = pytest.importorskip("ome_types")
    ome = ome_types.from_tiff(write(about_classes("slide.svs", CLASSES, {}, file="c"), np.uint8))
    (image,) = ome.images
    assert (image.name, image.pixels.channels[0].name, image.pixels.physical_size_x) == (
        "slide.svs: classes",
        "class id",
        0.5,
    )
    classes, colours = ome.structured_annotations
    assert (classes.namespace, dict(classes.value)["1"]) == ("cytoseg/classes", "a <b> & 'c'")
    assert (colours.namespace, dict(colours.value)["2"]) == ("cytoseg/colours", "#d55e00")
    assert {reference.id for reference in image.annotation_refs} == {classes.id, colours.id}


def test_grey_levels_come_back_as_nats(write: Write) -> None:
    with MapFile(write(about_uncertainty("s", 0.25, {}, file="u"), np.uint8)) as nats:
        found = nats.read(90, 398, width=20, height=4)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:2], np.repeat([[0.0, 0.25]], 2, 0).repeat(10, 1))
    np.testing.assert_array_equal(found[2:], np.full((2, 20), 63.75))
