import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin

from cytoseg.slides.image import read_picture
from cytoseg.slides.orientation import picture_turn, turned

UPSIDE_DOWN = 3


def _png(pixels: NDArray[np.uint8], *, exif: bool = False) -> bytes:
    file, tags = io.BytesIO(), Image.Exif()
    tags[274] = UPSIDE_DOWN
    Image.fromarray(pixels).save(file, "PNG", **({"exif": tags} if exif else {}))
    return file.getvalue()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.fixture
def late(four_colours: NDArray[np.uint8]) -> bytes:
    """A PNG whose EXIF chunk stands behind its pixels, as the standard allows."""
    early, plain = _png(four_colours, exif=True), _png(four_colours)
    start = early.index(b"eXIf") - 4
    (length,) = struct.unpack(">I", early[start : start + 4])
    exif = early[start : start + length + 12]
    return plain[:-12] + exif + plain[-12:]


def _turn(source: Path | bytes) -> int:
    with PngImagePlugin.PngImageFile(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return picture_turn(image, source)


def test_orientation_is_found_before_and_behind_the_pixels(
    late: bytes, four_colours: NDArray[np.uint8], tmp_path: Path
) -> None:
    (tmp_path / "late.png").write_bytes(late)
    sources = [_png(four_colours), _png(four_colours, exif=True), late, tmp_path / "late.png"]
    assert [_turn(source) for source in sources] == [1, UPSIDE_DOWN, UPSIDE_DOWN, UPSIDE_DOWN]
    assert_array_equal(read_picture(late, name="late"), four_colours[::-1, ::-1])


def test_a_png_without_late_metadata_is_not_decoded_for_its_orientation(
    four_colours: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(_: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", decode)
    assert _turn(_png(four_colours)) == 1


def test_a_png_cut_short_is_left_to_pillow(speckles: NDArray[np.uint8]) -> None:
    with pytest.raises(OSError, match="truncated"):
        _turn(_png(speckles)[:3000])


def test_metadata_that_is_not_exif_turns_nothing(four_colours: NDArray[np.uint8]) -> None:
    plain = _png(four_colours)
    header = 8 + 25
    for content in (b"", b"none of this is EXIF"):
        damaged = plain[:header] + _chunk(b"eXIf", content) + plain[header:]
        assert _turn(damaged) == 1
        assert_array_equal(read_picture(damaged, name="a"), four_colours)


def test_text_before_the_pixels_does_not_count(four_colours: NDArray[np.uint8]) -> None:
    plain = _png(four_colours)
    header = 8 + 25
    assert _turn(plain[:header] + _chunk(b"tEXt", b"Comment\0hello") + plain[header:]) == 1


def test_turned_pictures_are_contiguous_and_writeable(four_colours: NDArray[np.uint8]) -> None:
    for turn in range(1, 9):
        upright = turned(four_colours, turn)
        assert upright.flags.c_contiguous
        assert upright.flags.writeable
    assert_array_equal(turned(four_colours, 6), np.rot90(four_colours, -1))
