import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Region
from cytoseg.maps.raster import Raster
from cytoseg.slides.declared_size import claimed_size
from cytoseg.slides.image import read_picture
from cytoseg.slides.open import open_slide

Pixels = NDArray[Any]

PIXELS = np.zeros((30, 40, 3), np.uint8)
HUGE = 60000


def jpeg(pixels: Pixels, **options: Any) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(pixels, **options))


ENCODED: dict[str, bytes] = {
    "JPEG": jpeg(PIXELS),
    "JPEG with a restart and fill bytes": jpeg(PIXELS)[:2] + b"\xff" + jpeg(PIXELS)[2:],
    "JPEG 2000": imagecodecs.jpeg2k_encode(PIXELS, codecformat="j2k"),
    "JP2": imagecodecs.jpeg2k_encode(PIXELS, codecformat="jp2"),
    "PNG": imagecodecs.png_encode(PIXELS),
    "WebP": imagecodecs.webp_encode(PIXELS, lossless=True),
    "lossy WebP": imagecodecs.webp_encode(PIXELS, lossless=False, level=50),
}


@pytest.mark.parametrize("kind", ENCODED)
def test_the_head_says_how_large_it_is(kind: str) -> None:
    assert claimed_size(ENCODED[kind]) == (40, 30)
    for length in range(0, 60):
        assert claimed_size(ENCODED[kind][:length]) in ((0, 0), (40, 30))


def test_webp_with_more_than_a_picture() -> None:
    head = b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0" + (39).to_bytes(3, "little") + (29).to_bytes(3, "little")
    assert claimed_size(head) == (40, 30)


@pytest.mark.parametrize("content", [b"", b"\0\0", b"RIFF\0\0\0\0WEBPXXXX" + bytes(20), b"\xff\xd8\xff\xd9", b"text"])
def test_what_says_nothing(content: bytes) -> None:
    assert claimed_size(content) == (0, 0)


def enlarged(kind: str) -> bytes:
    """Claim 60,000 px a side in the head."""
    data = bytearray(ENCODED[kind])
    if kind == "JPEG":
        at = data.index(b"\xff\xc0")
        struct.pack_into(">HH", data, at + 5, HUGE, HUGE)
    if kind == "JPEG 2000":
        struct.pack_into(">II", data, data.index(b"\xff\x51") + 6, HUGE, HUGE)
    if kind == "PNG":
        struct.pack_into(">II", data, 16, HUGE, HUGE)
    return bytes(data)


@pytest.mark.parametrize("tile", [(16, 16), None], ids=["tile", "strip"])
@pytest.mark.parametrize(("kind", "compression"), [("JPEG", 7), ("JPEG 2000", 33005), ("PNG", 34933)])
def test_a_tile_that_claims_gigabytes_is_refused(tmp_path: Path, kind: str, compression: int, tile: Any) -> None:
    path = tmp_path / "a.tif"
    options: dict[str, Any] = {"shape": (16, 16, 3), "dtype": np.uint8, "tile": tile, "photometric": "rgb"}
    tifffile.imwrite(path, iter([enlarged(kind)]), compression=compression, metadata=None, **options)
    with pytest.raises(SlideError, match=r"claims 60,000 x 60,000 px"), open_slide(path) as slide:
        slide.read_region(Region(0, 0, 16, 16))
    with pytest.raises(SlideError, match=r"a: the image is damaged .*claims 60,000 x 60,000 px"):
        read_picture(path, name="a")


@pytest.mark.parametrize(
    "read", [open_slide, Raster, lambda path: read_picture(path, name="a.tif")], ids=["slide", "map", "picture"]
)
def test_tiles_of_gigabytes_are_refused(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    path = tmp_path / "a.tif"
    data, shape = zlib.compress(bytes(16)), (60000, 60000) if read is open_slide else (100, 100)
    tifffile.imwrite(
        path, iter([data]), shape=shape, dtype=np.uint8, tile=(60000, 60000), photometric="minisblack", compression=8
    )
    with pytest.raises(SlideError, match=r"a.tif: .*its tiles are 60,000 x 60,000 px"):
        read(path)


def test_the_limit_of_a_tile_can_be_raised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), tile=(64, 64), photometric="rgb")
    monkeypatch.setenv("CYTOSEG_MAX_TILE_PX", "4095")
    with pytest.raises(
        SlideError, match=r"a.tif: .*its tiles are 64 x 64 px.*set CYTOSEG_MAX_TILE_PX to more than 4095"
    ):
        open_slide(path)
    monkeypatch.setenv("CYTOSEG_MAX_TILE_PX", "4096")
    open_slide(path).close()
