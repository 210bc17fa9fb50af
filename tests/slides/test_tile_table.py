"""TIFF pages that lack tiles, strips or parts of them."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from cytoseg.errors import LabelError, SlideError
from cytoseg.formats.read_mask import read_mask
from cytoseg.geometry import Region
from cytoseg.slides.image import read_picture
from cytoseg.slides.open import open_slide
from tests.slides.tiffs import retag

Pixels = NDArray[np.uint8]
HEIGHT, ROWS_PER_STRIP, STRIPS, STRIP_BYTES, TILE_BYTES = 257, 278, 273, 279, 325


def strips(path: Path, pixels: Pixels, **options: Any) -> Path:
    """Write 37 rows in strips of 8."""
    kind = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(path, pixels, rowsperstrip=8, photometric=kind, metadata=None, **options)
    return path


def short(value: int) -> bytes:
    return struct.pack("<H", value)


@pytest.mark.parametrize(
    ("options", "code", "value", "found"),
    [
        ({"compression": "lzw"}, HEIGHT, 41, "lists 5 tiles or strips where 6 are needed"),
        ({"compression": "zlib"}, ROWS_PER_STRIP, 4, "lists 5 tiles or strips where 10 are needed"),
        ({}, HEIGHT, 60000, "lists 5 tiles or strips where 7500 are needed"),
        ({}, HEIGHT, 39, "lists 5,883 bytes where 6,201 are needed"),
    ],
)
def test_more_rows_than_there_are_strips_are_refused(
    tmp_path: Path, speckles: Pixels, options: dict[str, Any], code: int, value: int, found: str
) -> None:
    """They were black, or whatever follows in the file."""
    path = strips(tmp_path / "a.tif", speckles, **options)
    assert_array_equal(read_picture(path, name="a.tif"), speckles)
    retag(path, code, 3, 1, short(value))
    with pytest.raises(SlideError, match=rf"^a\.tif: {found}\. Copy or export it again\.$"):
        read_picture(path, name="a.tif")


def test_a_mask_that_lacks_strips_is_refused(tmp_path: Path, speckles: Pixels) -> None:
    path = strips(tmp_path / "m.tif", speckles[..., 0], compression="lzw")
    assert_array_equal(read_mask(path, name="m"), speckles[..., 0])
    with pytest.raises(LabelError, match=r"^m: lists 5 tiles or strips where 6 are needed\."):
        read_mask(retag(path, HEIGHT, 3, 1, short(41)), name="m")


@pytest.mark.parametrize("layout", [0, 3])
def test_channels_in_an_unknown_layout_are_refused(tmp_path: Path, speckles: Pixels, layout: int) -> None:
    path = retag(strips(tmp_path / "a.tif", speckles), 284, 3, 1, short(layout))
    with pytest.raises(SlideError, match=rf"^a\.tif: holds channels laid out in the unknown way {layout}, which"):
        open_slide(path)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("bits", [1, 8])
def test_complete_pages_of_any_layout_are_read(tmp_path: Path, speckles: Pixels, separate: bool, bits: int) -> None:
    pixels = speckles if bits == 8 else speckles > 128
    options: dict[str, Any] = {"planarconfig": "separate"} if separate else {}
    stored = np.moveaxis(pixels, -1, 0) if separate else pixels
    if bits == 1:
        stored, options = pixels[..., 0], {}
    path = strips(tmp_path / "a.tif", stored, **options)
    if separate and bits == 8:
        tifffile.imwrite(path, stored, rowsperstrip=8, photometric="rgb", metadata=None, **options)
    expected = speckles if bits == 8 else np.repeat(pixels[..., :1] * np.uint8(255), 3, axis=2)
    assert_array_equal(read_picture(path, name="a.tif"), expected)


@pytest.mark.parametrize("options", [{"rowsperstrip": 8}, {"tile": (16, 16)}])
def test_jpeg_tiles_and_strips_without_their_end_are_refused(
    tmp_path: Path, speckles: Pixels, options: dict[str, Any]
) -> None:
    """The decoder makes up what is missing: their colours were wrong without a word."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, speckles, photometric="ycbcr", compression="jpeg", metadata=None, **options)
    code = TILE_BYTES if "tile" in options else STRIP_BYTES
    with tifffile.TiffFile(path) as file:
        tag = file.pages.first.tags[code]
        counts, kind = list(tag.value), int(tag.dtype)
    counts[1] -= 9
    retag(path, code, kind, len(counts), b"".join(n.to_bytes(2 if kind == 3 else 4, "little") for n in counts))
    found = r"(tile 1 at x 16, y 0 is damaged \(its end is missing\)|the end of tile or strip 1 is missing)"
    with open_slide(path) as slide, pytest.raises(SlideError, match=rf"^a\.tif: {found}\. Copy "):
        slide.read_region(Region(0, 0, 53, 37))


def test_a_truncated_strip_of_jpeg_is_refused(tmp_path: Path, speckles: Pixels) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, speckles, photometric="ycbcr", compression="jpeg", rowsperstrip=8, metadata=None)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(SlideError, match=r"^a\.tif: the end of tile or strip 2 is missing\. Copy or export it again\."):
        read_picture(path, name="a.tif")
