import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from cytoseg.errors import LabelError
from cytoseg.formats.id_arrays import read_id_array
from cytoseg.formats.read_mask import read_mask
from tests.slides.tiffs import without_data

IDS = np.array([[0, 1, 2], [3, 1, 0]], np.uint8)


def grey_png(ids: NDArray[np.uint8], bits: int, *, claims: tuple[int, int] | None = None) -> bytes:
    """Write a grey PNG of 1 to 8 bits, which Pillow does not; ``claims`` is another size for its header."""
    rows = b""
    for row in ids:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", *(claims or ids.shape[::-1]), bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_greys_of_few_bits_are_read_as_stored(tmp_path: Path, bits: int) -> None:
    ids = IDS & np.uint8(2**bits - 1)
    (tmp_path / "a.png").write_bytes(grey_png(ids, bits))
    assert read_mask(tmp_path / "a.png", name="m").tolist() == ids.tolist()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_any_depth_give_their_indices(tmp_path: Path, bits: int) -> None:
    ids = IDS & np.uint8(2**bits - 1)
    image = Image.fromarray(ids)
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0, 1, 2, 3])
    image.save(tmp_path / "a.png", bits=bits)
    assert read_mask(tmp_path / "a.png", name="m").tolist() == ids.tolist()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_greys_stored_as_colours_are_read(tmp_path: Path, mode: str, suffix: str) -> None:
    Image.fromarray(IDS).convert(mode).save(tmp_path / f"a.{suffix}")
    assert read_mask(tmp_path / f"a.{suffix}", name="m").tolist() == IDS.tolist()


@pytest.mark.parametrize("compression", [None, "group4", "tiff_lzw", "tiff_deflate"])
def test_one_bit_tiffs_are_read(tmp_path: Path, compression: str | None) -> None:
    Image.fromarray(IDS > 0).save(tmp_path / "a.tif", compression=compression)
    assert read_mask(tmp_path / "a.tif", name="m").tolist() == (IDS > 0).tolist()


def test_channels_apart_and_files_of_imagej_are_read(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([IDS] * 3), photometric="rgb", planarconfig="separate")
    assert read_mask(tmp_path / "a.tif", name="m").tolist() == IDS.tolist()
    tifffile.imwrite(tmp_path / "b.tif", IDS, imagej=True)
    assert read_mask(tmp_path / "b.tif", name="m").tolist() == IDS.tolist()


def test_a_tiff_with_the_suffix_of_a_png_is_read(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.png", IDS, photometric="minisblack")
    assert read_mask(tmp_path / "a.png", name="m").tolist() == IDS.tolist()


def test_smaller_pages_of_a_pyramid_are_passed_over(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(IDS, photometric="minisblack")
        file.write(IDS[:1], photometric="minisblack", subfiletype=1)
    assert read_mask(tmp_path / "a.tif", name="m").tolist() == IDS.tolist()


def test_transparent_masks_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.stack([IDS] * 4, axis=-1)).save(tmp_path / "a.png")
    with pytest.raises(LabelError, match=r"m: holds 2x3x4 uint8, not one channel of class ids"):
        read_mask(tmp_path / "a.png", name="m")


@pytest.mark.parametrize(("kind", "says"), [("JPEG", " JPEG blurs ids."), ("GIF", ""), ("WEBP", "")])
def test_other_formats_are_refused_whatever_they_are_called(tmp_path: Path, kind: str, says: str) -> None:
    Image.fromarray(IDS).save(tmp_path / "a.png", kind)
    with pytest.raises(LabelError, match=rf"^m: is a {kind} image\.{says} Export the mask as PNG or TIFF\.$"):
        read_mask(tmp_path / "a.png", name="m")


def test_palettes_that_contradict_their_indices_are_refused(tmp_path: Path) -> None:
    image = Image.fromarray(IDS)
    image.putpalette([1, 1, 1, 0, 0, 0, 2, 2, 2, 3, 3, 3])
    image.save(tmp_path / "a.png")
    with pytest.raises(LabelError, match=r"palette shows ids \[0, 1, 2, 3\] as greys \[1, 0, 2, 3\]"):
        read_mask(tmp_path / "a.png", name="m")
    image = Image.fromarray(IDS & np.uint8(1))
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "a.png")
    with pytest.raises(LabelError, match="palette shows id 0 white and 1 black"):
        read_mask(tmp_path / "a.png", name="m")


@pytest.mark.parametrize(
    ("greys", "refused"),
    [
        *[((0, 2, 5, 6), True), ((0, 1, 255, 2), True), ((0, 2, 255), True), ((1, 2), True), ((7, 7), True)],
        *[((0, 128, 255), False), ((0, 255), False), ((0, 85, 170, 255), False), ((40, 80), False), ((0, 1, 2), False)],
    ],
)
def test_compacted_palettes_are_refused_and_palettes_for_display_are_not(
    tmp_path: Path, greys: tuple[int, ...], refused: bool
) -> None:
    """Programs that remove unused colours turn ids 0, 2 and 5 into the indices 0, 1 and 2."""
    ids = np.arange(len(greys), dtype=np.uint8)[None]
    image = Image.fromarray(ids)
    image.putpalette([value for grey in greys for value in (grey, grey, grey)])
    image.save(tmp_path / "a.png")
    if refused:
        with pytest.raises(LabelError, match=r"palette shows ids \[0, 1.*\] as greys \["):
            read_mask(tmp_path / "a.png", name="m")
    else:
        assert read_mask(tmp_path / "a.png", name="m").tolist() == ids.tolist()


def test_palettes_of_tiffs_count_as_those_of_pngs(tmp_path: Path) -> None:
    def write(ids: NDArray[np.uint8], *greys: int, unit: int = 257) -> Path:
        table = np.full((3, 256), 7 * unit, np.uint16)
        table[:, : len(greys)] = np.array(greys, np.uint16) * np.uint16(unit)
        tifffile.imwrite(tmp_path / "a.tif", ids, photometric="palette", colormap=table)
        return tmp_path / "a.tif"

    assert read_mask(write(IDS, 0, 1, 2, 3), name="m").tolist() == IDS.tolist()
    assert read_mask(write(IDS, 9, 0, 50, 255), name="m").tolist() == IDS.tolist()
    for unit in (257, 1):  # some writers fill the table with 8-bit values
        with pytest.raises(LabelError, match=r"palette shows ids \[0, 1, 2, 3\] as greys \[1, 0, 2, 3\]"):
            read_mask(write(IDS, 1, 0, 2, 3, unit=unit), name="m")
        with pytest.raises(LabelError, match="palette shows id 0 white and 1 black"):
            read_mask(write(IDS & np.uint8(1), 255, 0, unit=unit), name="m")


def test_a_16_bit_colour_mask_is_refused(tmp_path: Path) -> None:
    data = bytearray(grey_png(IDS, 8))
    data[24], data[25] = 16, 2  # bits and kind
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(LabelError, match="holds 16-bit colours"):
        read_mask(tmp_path / "a.png", name="m")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"photometric": "miniswhite"}, r"stores white as 0 \(MinIsWhite\)"),
        ({"photometric": "minisblack", "compression": "jpeg"}, "is compressed as JPEG, which blurs ids"),
        ({"photometric": "minisblack", "compression": "jpeg2000"}, "is compressed as JPEG2000, which can blur ids"),
        ({"photometric": "minisblack", "compression": "jpegxl"}, "is compressed as JPEGXL, which can blur ids"),
        ({"photometric": "minisblack", "compression": "lerc"}, "is compressed as LERC, which can blur ids"),
    ],
)
def test_tiffs_that_change_ids_are_refused(tmp_path: Path, options: dict[str, str], says: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((16, 16), np.uint8), **options)
    with pytest.raises(LabelError, match=says):
        read_mask(tmp_path / "a.tif", name="m")


def test_an_animation_is_refused(tmp_path: Path) -> None:
    Image.fromarray(IDS).save(tmp_path / "a.png", save_all=True, append_images=[Image.fromarray(3 - IDS)])
    with pytest.raises(LabelError, match=r"^m: is an animation of 2 frames\. Save the one with the class ids\.$"):
        read_mask(tmp_path / "a.png", name="m")


def test_a_tiff_without_the_data_of_a_strip_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IDS, photometric="minisblack", rowsperstrip=1)
    without_data(tmp_path / "a.tif", part=1, tags=[279])
    with pytest.raises(LabelError, match=r"^m: 1 of 2 tiles or strips hold no data\."):
        read_mask(tmp_path / "a.tif", name="m")


def test_several_pages_and_strange_channels_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([IDS, IDS]), photometric="minisblack")
    with pytest.raises(LabelError, match="holds several pages"):
        read_mask(tmp_path / "a.tif", name="m")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((2, 2, 5), np.uint8), photometric="minisblack", planarconfig="contig")
    with pytest.raises(LabelError, match="has 5 channels of 8 bits, not one of class ids"):
        read_mask(tmp_path / "b.tif", name="m")


@pytest.mark.parametrize("claims", [(13_000, 13_000), (70_000, 70_000), (2**31 - 1, 2**31 - 1)])
def test_masks_that_claim_to_be_huge_are_refused_unread(tmp_path: Path, claims: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(grey_png(IDS, 8, claims=claims))
    with pytest.raises(LabelError, match=r"m: claims .*Split the image and its mask into smaller ones\.$"):
        read_mask(tmp_path / "a.png", name="m")


@pytest.mark.parametrize(("tag", "value"), [(256, 70_000), (322, 2**30), (322, 0), (256, 0)])
def test_tiffs_that_claim_a_strange_size_are_refused(tmp_path: Path, tag: int, value: int) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((70, 70), np.uint8), tile=(64, 64), photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        for number in (tag, tag + 1):
            file.pages.first.tags[number].overwrite(value)
    with pytest.raises(LabelError, match=r"m: (claims|the mask is damaged)"):
        read_mask(tmp_path / "a.tif", name="m")


def test_palette_masks_give_their_indices(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 2]], np.uint8))
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    image.save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", name="a").tolist() == [[0, 2]]


def test_one_bit_and_tiff_masks_are_read(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", name="a").tolist() == [[1, 0]]
    tifffile.imwrite(tmp_path / "a.tif", np.array([[1, 300]], np.uint16))
    assert read_mask(tmp_path / "a.tif", name="a").tolist() == [[1, 300]]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_damaged_mask_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("no image")
    with pytest.raises(LabelError, match=r"m: the mask is damaged or not an image"):
        read_mask(tmp_path / name, name="m")


def test_a_truncated_mask_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (64, 64), np.uint8)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LabelError, match="damaged"):
        read_mask(tmp_path / "a.png", name="m")


def test_colours_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.eye(3, dtype=np.uint8)[:, :, None] * np.array([1, 2, 3], np.uint8))
    with pytest.raises(LabelError, match=r"not one channel of class ids\. Export ids, not colours"):
        read_mask(tmp_path / "a.tif", name="m")


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_whole_numbers_in_floating_point_are_read(tmp_path: Path, kind: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IDS.astype(kind))
    found = read_mask(tmp_path / "a.tif", name="m")
    assert (found.tolist(), found.dtype) == (IDS.tolist(), np.int64)


@pytest.mark.parametrize("odd", [0.5, np.nan, np.inf, 1e30, 1j])
def test_other_floating_point_is_refused(tmp_path: Path, odd: complex) -> None:
    values = np.full((2, 2), odd, np.complex64 if isinstance(odd, complex) else np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values)
    with pytest.raises(LabelError, match=r"values with fractions, not class ids\. Export whole numbers\."):
        read_mask(tmp_path / "a.tif", name="m")


def test_fractions_in_several_channels_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full((4, 4, 4), 0.5, np.float32), photometric="rgb")
    with pytest.raises(LabelError, match="float32 values with fractions"):
        read_mask(tmp_path / "a.tif", name="m")


@pytest.mark.posix
@pytest.mark.parametrize(("name", "says"), [("a.png", "m: is a named pipe,"), ("a.npy", "it is a named pipe")])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str, says: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(LabelError, match=says):
        (read_mask if name == "a.png" else read_id_array)(tmp_path / name, name="m")
