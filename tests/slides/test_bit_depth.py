from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Region
from cytoseg.slides.image import read_picture
from cytoseg.slides.open import open_slide
from cytoseg.slides.tiff import clipped

Write = Callable[..., Path]
Pixels = NDArray[Any]

KINDS = pytest.mark.parametrize("tile", [(16, 16), None], ids=["tiles", "strips"])
DARK = r"slide.tif: holds 16-bit values of at most 4095, probably of a 12-bit camera, and would be almost black\. Scale"


def camera(speckles: Pixels, bits: int) -> Pixels:
    """The image as a camera of this depth writes it into 16 bits, black and white included."""
    values: Pixels = speckles.astype(np.uint32) * (2**bits - 1) // 255
    return values.astype(np.uint16)


def read(path: Path) -> Pixels:
    with open_slide(path) as slide:
        size = slide.levels[0].size
        return slide.read_region(Region(0, 0, size.width, size.height))


@KINDS
@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("stated", ["OME", "tag"])
def test_a_stated_depth_is_scaled_to_8_bits(
    write_tiff: Write, speckles: Pixels, tile: Any, bits: int, stated: str
) -> None:
    options: dict[str, Any] = {"name": "a.ome.tif", "ome": True, "metadata": {"axes": "YXS", "SignificantBits": bits}}
    if stated == "tag":
        options = {"metadata": None, "extratags": [(281, 3, 3, (2**bits - 2,) * 3, True)]}
    path = write_tiff(camera(speckles, bits), tile=tile, **options)
    assert np.abs(read(path).astype(int) - speckles).max() <= 1
    assert_array_equal(read_picture(path, name="a"), read(path))


@KINDS
def test_an_unstated_depth_is_refused_rather_than_read_as_black(write_tiff: Write, speckles: Pixels, tile: Any) -> None:
    with pytest.raises(SlideError, match=DARK):
        read(write_tiff(camera(speckles, 12), tile=tile))
    alpha = np.full((*speckles.shape[:2], 1), 65535, np.uint16)
    with pytest.raises(SlideError, match=DARK):
        read(write_tiff(np.concatenate([camera(speckles, 12), alpha], 2), photometric="rgb", tile=tile))
    assert not read(write_tiff(np.zeros_like(speckles, np.uint16), tile=tile)).any()
    bright = camera(speckles, 12)
    bright[0, 0] = 4096
    assert read(write_tiff(bright, tile=tile)).max() == 16


def test_a_png_of_a_12_bit_camera_is_refused(speckles: Pixels) -> None:
    for pixels in (camera(speckles, 12), np.ascontiguousarray(camera(speckles, 12)[..., 0])):
        with pytest.raises(SlideError, match=r"a\.png: holds 16-bit values of at most 4\d\d\d, probably of a 12-bit"):
            read_picture(imagecodecs.png_encode(pixels), name="a.png")


@KINDS
@pytest.mark.parametrize("stated", [0, 7, 17, "twelve"])
def test_a_depth_that_makes_no_sense_is_ignored(write_tiff: Write, speckles: Pixels, tile: Any, stated: Any) -> None:
    text = (
        f'<?xml version="1.0"?><OME><Image><Pixels SizeX="53" SizeY="37" SizeZ="1" SizeC="3" SizeT="1" '
        f'SignificantBits="{stated}" Type="uint16"/></Image></OME>'
    )
    path = write_tiff(camera(speckles, 16), tile=tile, description=text, metadata=None)
    assert_array_equal(read(path), speckles)


def test_values_beyond_the_stated_depth_are_white(write_tiff: Write) -> None:
    pixels = np.array([[[0, 4095, 65535]]], np.uint16)
    path = write_tiff(pixels, tile=None, metadata=None, extratags=[(281, 3, 1, 4095, True)])
    assert read(path).tolist() == [[[0, 255, 255]]]
    assert clipped(np.array([True]), 1).dtype == np.bool_
