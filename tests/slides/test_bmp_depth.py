"""BMP images of each depth and palette: as stored, or refused by name."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoseg.errors import LabelError, SlideError
from cytoseg.formats.read_mask import read_mask
from cytoseg.slides.image import read_picture

IDS = np.arange(16 * 24).reshape(16, 24) % 3


def write_bmp(path: Path, ids: np.ndarray, *, bits: int, greys: list[int]) -> None:
    """Write (H, W) indices with a palette of greys; a row fills whole words, the lowest comes first."""
    rows = b""
    for row in ids[::-1]:
        text = "".join(f"{index:0{bits}b}" for index in row)
        text += "0" * (-len(text) % 32)
        rows += int(text, 2).to_bytes(len(text) // 8, "big")
    palette, (height, width) = b"".join(bytes((grey, grey, grey, 0)) for grey in greys), ids.shape
    begin = 54 + len(palette)
    head = struct.pack("<2sIHHI", b"BM", begin + len(rows), 0, 0, begin)
    head += struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(rows), 0, 0, len(greys), 0)
    path.write_bytes(head + palette + rows)


@pytest.mark.parametrize(
    ("bits", "greys"),
    [
        *((8, list(range(256))), (8, [0, 1, 2]), (8, [0, 128, 255])),
        *((4, [17 * i for i in range(16)]), (4, [0, 128, 255]), (1, [0, 255]), (1, [0, 1])),
    ],
)
def test_ids_and_greys_are_read_as_stored(tmp_path: Path, bits: int, greys: list[int]) -> None:
    ids, path = IDS % min(3, len(greys)), tmp_path / "a.bmp"
    write_bmp(path, ids, bits=bits, greys=greys)
    np.testing.assert_array_equal(read_mask(path, name="a.bmp"), ids)
    np.testing.assert_array_equal(read_picture(path, name="a.bmp")[..., 0], np.array(greys)[ids])


@pytest.mark.parametrize(("bits", "greys"), [(4, list(range(16))), (4, [0, 1, 2]), (4, [0, 255]), (8, [0, 255])])
def test_what_pillow_takes_for_another_depth_is_refused(tmp_path: Path, bits: int, greys: list[int]) -> None:
    path = tmp_path / "a.bmp"
    write_bmp(path, IDS % len(greys), bits=bits, greys=greys)
    message = rf"^a\.bmp: stores {bits} bits per pixel with a grey palette, .* Save it as PNG\.$"
    with pytest.raises(LabelError, match=message):
        read_mask(path, name="a.bmp")
    with pytest.raises(SlideError, match=message):
        read_picture(path, name="a.bmp")


def test_an_image_of_os2_is_read(tmp_path: Path) -> None:
    """Its header has 12 bytes and a palette of three bytes a colour."""
    rows = b"".join(bytes(row.tolist()) for row in IDS[::-1].astype(np.uint8))
    palette = b"".join(bytes((i, i, i)) for i in range(256))
    head = struct.pack("<2sIHHI", b"BM", 26 + 768 + len(rows), 0, 0, 26 + 768) + struct.pack("<IHHHH", 12, 24, 16, 1, 8)
    (tmp_path / "a.bmp").write_bytes(head + palette + rows)
    with Image.open(tmp_path / "a.bmp") as image:
        assert image.mode == "L"
    np.testing.assert_array_equal(read_mask(tmp_path / "a.bmp", name="a.bmp"), IDS)
