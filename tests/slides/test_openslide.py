import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Level, Region, Size

openslide = pytest.importorskip("openslide")

from cytoseg.slides.openslide import OpenSlideSlide  # noqa: E402 - only where OpenSlide is installed
from cytoseg.slides.tiff import TiffSlide  # noqa: E402 - as above

Write = Callable[..., Path]
Pixels = NDArray[Any]


def test_agrees_with_our_reader_on_a_pyramid(write_pyramid: Write, speckles: Pixels) -> None:
    # Sides that halve exactly: OpenSlide interpolates between pixels where a level's downsample is broken.
    path = write_pyramid([speckles[:36, :52], speckles[:36:2, :52:2]], name="a.tif", subifds=False, compression="zlib")
    with OpenSlideSlide(path) as theirs, TiffSlide(path) as ours:
        assert [level.size for level in theirs.levels] == [level.size for level in ours.levels]
        for level, region in [(0, Region(-3, 7, 30, 31)), (0, Region(40, 30, 16, 16)), (1, Region(20, 12, 8, 8))]:
            assert_array_equal(theirs.read_region(region, level), ours.read_region(region, level))


def test_outside_is_white(write_tiff: Write, four_colours: Pixels) -> None:
    expected = np.full((6, 8, 3), 255, np.uint8)
    expected[1:5, 1:7] = four_colours
    with OpenSlideSlide(write_tiff(four_colours, compression="zlib")) as slide:
        assert slide.levels == (Level(Size(6, 4), 1.0),)
        assert_array_equal(slide.read_region(Region(-1, -1, 8, 6)), expected)
        assert_array_equal(slide.read_region(Region(60, 60, 2, 2)), np.full((2, 2, 3), 255))


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"resolution": (40000, 40000)}, 0.25), ({"resolution": (72, 72)}, None)],
)
def test_mpp(write_tiff: Write, speckles: Pixels, options: dict[str, Any], expected: float | None) -> None:
    with OpenSlideSlide(write_tiff(speckles, resolutionunit="CENTIMETER", **options)) as slide:
        assert slide.mpp == (None if expected is None else pytest.approx(expected))


def test_a_non_numeric_mpp_is_omitted(monkeypatch: pytest.MonkeyPatch, write_tiff: Write, speckles: Pixels) -> None:
    monkeypatch.setattr(openslide.OpenSlide, "properties", {"openslide.mpp-x": "half"})
    with OpenSlideSlide(write_tiff(speckles)) as slide:
        assert slide.mpp is None


def test_pickles_as_its_path(write_tiff: Write, speckles: Pixels) -> None:
    with OpenSlideSlide(write_tiff(speckles, compression="zlib")) as slide, pickle.loads(pickle.dumps(slide)) as again:
        assert again.path == slide.path
        assert_array_equal(again.read_region(Region(0, 0, 53, 37)), speckles)


def test_what_openslide_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "cells.ndpi"
    path.write_text("no slide")
    with pytest.raises(SlideError, match=r"cells.ndpi: OpenSlide cannot open it .*companion files"):
        OpenSlideSlide(path)


def test_damaged_tile(monkeypatch: pytest.MonkeyPatch, write_tiff: Write, speckles: Pixels) -> None:
    def broken(*_: object) -> None:
        raise openslide.OpenSlideError("cannot decode")

    monkeypatch.setattr(openslide.OpenSlide, "read_region", broken)
    with (
        OpenSlideSlide(write_tiff(speckles)) as slide,
        pytest.raises(SlideError, match=r"slide.tif: damaged at Region\(x=0.*cannot decode.*Copy the file again"),
    ):
        slide.read_region(Region(0, 0, 4, 4))


@pytest.mark.parametrize(
    ("regions", "note"), [(0, ""), (1, ""), (3, "3 regions on one canvas"), (12, "12 regions on one canvas")]
)
def test_regions_on_one_canvas_are_reported(
    monkeypatch: pytest.MonkeyPatch, write_tiff: Write, speckles: Pixels, regions: int, note: str
) -> None:
    names = {f"openslide.region[{i}].{what}": "9" for i in range(regions) for what in ("x", "y", "width", "height")}
    monkeypatch.setattr(openslide.OpenSlide, "properties", names)
    with OpenSlideSlide(write_tiff(speckles)) as slide:
        assert slide.note == note


@pytest.mark.parametrize(
    ("x", "y", "note"),
    [
        ("0", "0", ""),
        ("x", "", ""),
        ("300", "0", "the whole canvas; QuPath counts from x 300, y 0 unless opened with --no-crop"),
        ("-4", "77", "the whole canvas; QuPath counts from x -4, y 77 unless opened with --no-crop"),
    ],
)
def test_the_offset_of_a_scan_that_qupath_crops_is_reported(
    monkeypatch: pytest.MonkeyPatch, write_tiff: Write, speckles: Pixels, x: str, y: str, note: str
) -> None:
    monkeypatch.setattr(openslide.OpenSlide, "properties", {"openslide.bounds-x": x, "openslide.bounds-y": y})
    with OpenSlideSlide(write_tiff(speckles)) as slide:
        assert slide.note == note


def test_planes_of_an_ndpi_that_are_not_read_are_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, speckles: Pixels
) -> None:
    # By its name tifffile would read it with the 64-bit offsets of a real NDPI, which no library writes.
    monkeypatch.setattr(tifffile.TIFF, "NDPI_LE", tifffile.TIFF.CLASSIC_LE)
    path = tmp_path / "made.ndpi"
    with tifffile.TiffWriter(path) as tif:
        for level, offset in itertools.product((1, 2), (0, -4000, 4000)):
            focus = [(65424, "i", 1, offset, True)]
            tif.write(speckles[::level, ::level], tile=(16, 16), photometric="rgb", extratags=focus)
    with OpenSlideSlide(path) as slide:
        assert slide.note == "plane z = 0 of 3 (OpenSlide reads no other)"


def test_planes_of_an_scn_that_are_not_read_are_reported(
    monkeypatch: pytest.MonkeyPatch, write_tiff: Write, speckles: Pixels
) -> None:
    xml = '<scn><image><pixels sizeX="9" sizeY="9"/></image><image><pixels sizeX="53" sizeZ="5"/></image></scn>'
    monkeypatch.setattr(tifffile.TiffFile, "scn_metadata", xml)
    monkeypatch.setattr(openslide.OpenSlide, "properties", {f"openslide.region[{i}].width": "9" for i in range(2)})
    with OpenSlideSlide(write_tiff(speckles, name="made.scn")) as slide:
        assert slide.note == "2 regions on one canvas, plane z = 0 of 5 (OpenSlide reads no other)"


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (
            ["ExtFocusLevel", "ZStackLevel_(-1)", "ZStackLevel_(0)", "ZStackLevel_(1)"],
            "one plane of 3 (OpenSlide reads no other, and does not say which)",
        ),
        (["ZStackLevel_(0)"], ""),
        (["ExtFocusLevel"], ""),
    ],
)
def test_planes_of_an_mrxs_that_are_not_read_are_reported(
    monkeypatch: pytest.MonkeyPatch, write_tiff: Write, speckles: Pixels, names: list[str], note: str
) -> None:
    """Slidedat.ini as OpenSlide hands it on, with the hierarchies of a file of bioformats2raw's tests."""
    said = {
        "mirax.HIERARCHICAL.HIER_0_VAL_0": "ZoomLevel_0",
        "mirax.HIERARCHICAL.HIER_2_NAME": "Microscope focus level",
    }
    said |= {f"mirax.HIERARCHICAL.HIER_2_VAL_{i}": name for i, name in enumerate(names)}
    said |= {f"mirax.HIERARCHICAL.HIER_2_VAL_{i}_SECTION": f"LAYER_2_LEVEL_{i}_SECTION" for i in range(len(names))}
    monkeypatch.setattr(openslide.OpenSlide, "properties", said)
    with OpenSlideSlide(write_tiff(speckles)) as slide:
        assert slide.note == note


def test_planes_that_cannot_be_counted_are_not_reported(
    monkeypatch: pytest.MonkeyPatch, write_tiff: Write, speckles: Pixels
) -> None:
    path = write_tiff(speckles, name="made.ndpi")

    def damaged(*_: object) -> None:
        raise ValueError("damaged")

    monkeypatch.setattr(tifffile, "TiffFile", damaged)
    with OpenSlideSlide(path) as slide:
        assert slide.note == ""


@pytest.mark.data
def test_a_real_slide_of_one_picture_has_no_note(cytoseg_data: Path) -> None:
    with OpenSlideSlide(cytoseg_data / "wsi" / "CMU-1-Small-Region.svs") as slide:
        assert slide.note == ""
