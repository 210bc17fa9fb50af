import io
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from cachetools import LRUCache
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from cytoseg.caches import memory_cache
from cytoseg.errors import SlideError
from cytoseg.geometry import Level, Region, Size
from cytoseg.slides import image
from cytoseg.slides.image import ImageSlide, read_picture, read_stored
from tests.slides.tiffs import without_data

Write = Callable[..., Path]
Pixels = NDArray[Any]


def _cache_of(max_bytes: int) -> LRUCache[Any, Pixels]:
    return memory_cache(max_bytes, lambda pixels: int(pixels.nbytes))


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "_cache", _cache_of(image.CACHE_BYTES))


def encoded(pixels: Pixels, kind: str, mode: str | None = None, **options: Any) -> bytes:
    file, picture = io.BytesIO(), Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(file, kind, **options)
    return file.getvalue()


def tiff(pixels: Pixels, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_lossless_pictures_come_out_exactly(
    tmp_path: Path, speckles: Pixels, kind: str, options: dict[str, Any]
) -> None:
    content = encoded(speckles, kind, **options)
    assert_array_equal(read_picture(content, name="picture"), speckles)
    # The bytes decide, not the name.
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)
    found = read_picture(path, name="picture")
    assert_array_equal(found, speckles)
    assert found.dtype == np.uint8
    assert found.flags.writeable
    assert found.flags.c_contiguous


def test_jpeg(four_colours: Pixels) -> None:
    big = four_colours.repeat(8, 0).repeat(8, 1)
    found = read_picture(encoded(big, "JPEG", quality=95, subsampling=0), name="a.jpg").astype(int)
    assert abs(found[4::8, 4::8] - four_colours).max() <= 3


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"gAMA", struct.pack(">I", 100_000))],
        [(b"sBIT", b"\5\6\5"), (b"bKGD", struct.pack(">3H", 9, 9, 9)), (b"tEXt", b"Title\0cells")],
        [(b"sRGB", b"\0"), (b"pHYs", struct.pack(">2IB", 2835, 2835, 1))],
    ],
)
def test_colours_of_a_png_are_taken_as_stored(speckles: Pixels, chunks: list[tuple[bytes, bytes]]) -> None:
    content, header = encoded(speckles, "PNG"), 8 + 25
    added = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    found = read_picture(content[:header] + added + content[header:], name="picture")
    assert_array_equal(found, speckles)


def test_a_transparent_colour_of_a_png_becomes_white(speckles: Pixels) -> None:
    clear = tuple(int(value) for value in speckles[4, 7])
    found = read_picture(encoded(speckles, "PNG", transparency=clear), name="picture")
    expected = np.where((speckles == clear).all(axis=2, keepdims=True), 255, speckles)
    assert_array_equal(found, expected)


def test_small_8bit_png_is_not_taken_for_16_bit(speckles: Pixels) -> None:
    assert_array_equal(read_picture(encoded(speckles[:16, :16], "PNG"), name="a.png"), speckles[:16, :16])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_is_scaled_not_clipped(channels: int) -> None:
    values = np.array([0, 128, 129, 257 * 100, 65407, 65535], np.uint16)
    deep = np.repeat(values[None, :, None], channels, axis=2)
    if channels in (2, 4):
        deep[..., -1] = 65535
    found = read_picture(imagecodecs.png_encode(deep.squeeze()[None] if channels == 1 else deep), name="a.png")
    assert_array_equal(found, np.repeat(np.array([0, 0, 1, 100, 255, 255], np.uint8)[None, :, None], 3, axis=2))


def test_16_bit_tiff_is_scaled_not_clipped() -> None:
    values = np.array([[0, 128, 129, 257 * 100, 65535]], np.uint16)
    found = read_picture(tiff(values, photometric="minisblack"), name="a.tif")
    assert_array_equal(found[0], np.repeat(np.array([0, 0, 1, 100, 255])[:, None], 3, axis=1))


def test_transparent_png_is_laid_on_white() -> None:
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [100, 50, 0, 51]]], np.uint8)
    expected = [[[200, 0, 0], [255, 255, 255], [224, 214, 204]]]
    assert_array_equal(read_picture(encoded(pixels, "PNG"), name="a.png"), expected)
    unmultiplied = tiff(pixels, photometric="rgb", extrasamples=["unassalpha"])
    assert_array_equal(read_picture(unmultiplied, name="a.tif"), expected)


def test_transparent_16_bit_png_is_laid_on_white() -> None:
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0]]], np.uint16) * 257
    found = read_picture(imagecodecs.png_encode(pixels), name="a.png")
    assert_array_equal(found, [[[200, 0, 0], [255, 255, 255]]])


def test_palette_with_a_transparent_colour(four_colours: Pixels) -> None:
    palette = Image.fromarray(four_colours).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    red = int(np.asarray(palette)[0, 0])
    file = io.BytesIO()
    palette.save(file, "PNG", transparency=red)
    expected = four_colours.copy()
    expected[:2, :3] = 255
    assert_array_equal(read_picture(file.getvalue(), name="a.png"), expected)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_transparent_grey_of_few_bits_becomes_white(bits: int) -> None:
    values, steps = np.arange(2**bits, dtype=np.uint8), 255 // (2**bits - 1)
    row = np.packbits(np.unpackbits(values[:, None], axis=1)[:, 8 - bits :].ravel())
    clear = 2**bits - 2  # the brightest but one, or black of one bit
    chunks = [
        (b"IHDR", struct.pack(">2I5B", len(values), 1, bits, 0, 0, 0, 0)),
        (b"tRNS", struct.pack(">H", clear)),
        (b"IDAT", zlib.compress(b"\0" + row.tobytes())),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    found = read_picture(content, name="a.png")
    assert found[0, :, 0].tolist() == [255 if i == clear else int(i) * steps for i in values]


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_an_index_without_a_colour_is_refused(kind: str) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8), "L")
    image.putpalette(bytes(range(12)))
    file = io.BytesIO()
    image.save(file, kind)
    content = file.getvalue()
    assert_array_equal(read_picture(content, name="a")[1, 1], [9, 10, 11])
    if kind == "PNG":
        at = content.index(b"PLTE")
        cut = struct.pack(">I", 9) + b"PLTE" + bytes(range(9))
        end = at + 4 + int.from_bytes(content[at - 4 : at], "big") + 4
        content = content[: at - 4] + cut + struct.pack(">I", zlib.crc32(cut[4:])) + content[end:]
        with pytest.raises(SlideError, match=r"^a: uses colour 3 of a palette of 3\. Export it again\."):
            read_picture(content, name="a")


def test_grey_and_one_bit(four_colours: Pixels) -> None:
    grey = four_colours[..., 0]  # 200 0 above 0 200
    expected = np.repeat(grey[..., None], 3, axis=2)
    assert_array_equal(read_picture(encoded(grey, "PNG"), name="a.png"), expected)
    one_bit = read_picture(encoded(grey > 99, "PNG"), name="a.png")
    assert_array_equal(one_bit, (expected > 99) * 255)


def test_cmyk_jpeg_of_adobe_and_others(four_colours: Pixels) -> None:
    big = four_colours.repeat(16, 0).repeat(16, 1)
    ink = Image.fromarray(big).convert("CMYK")
    adobe = io.BytesIO()
    ink.save(adobe, "JPEG", quality=100, subsampling=0)  # Pillow writes them as Adobe does: inverted
    found = read_picture(adobe.getvalue(), name="a.jpg").astype(int)
    assert abs(found[8::16, 8::16] - four_colours).max() <= 3

    plain = io.BytesIO()
    inverted = Image.frombytes("CMYK", ink.size, (255 - np.asarray(ink)).tobytes())
    inverted.save(plain, "JPEG", quality=100, subsampling=0)
    content = plain.getvalue()
    at = content.index(b"\xff\xee")
    length = struct.unpack(">H", content[at + 2 : at + 4])[0]
    found = read_picture(content[:at] + content[at + 2 + length :], name="a.jpg").astype(int)
    assert abs(found[8::16, 8::16] - four_colours).max() <= 3


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


# What each EXIF value asks for, done here by numpy's own turns and flips.
TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.rot90(np.fliplr(a)),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.fliplr(a), -1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_rotation_is_applied(tmp_path: Path, speckles: Pixels, orientation: int) -> None:
    expected = TURNS[orientation](speckles)
    png, webp = encoded(speckles, "PNG", exif=turned(orientation)), tmp_path / "a.webp"
    assert_array_equal(read_picture(png, name="a.png"), expected)
    plain = tiff(speckles, photometric="rgb", extratags=[(274, 3, 1, orientation, False)])
    assert_array_equal(read_picture(plain, name="a.tif"), expected)
    webp.write_bytes(encoded(speckles, "WEBP", lossless=True, exif=turned(orientation)))
    with ImageSlide(webp) as slide:
        height, width = expected.shape[:2]
        assert slide.levels == (Level(Size(width, height), 1.0),)
        assert slide.note == ("the image turned upright by its orientation tag" if orientation > 1 else "")
        assert_array_equal(slide.read_region(Region(0, 0, width, height)), expected)
    stored, turn = read_stored(png, name="a.png")
    assert_array_equal(stored, speckles)
    assert turn == orientation
    assert_array_equal(
        read_picture(encoded(speckles, "JPEG", exif=turned(orientation)), name="a.jpg").shape, expected.shape
    )


def test_meaningless_rotation_is_no_rotation(speckles: Pixels) -> None:
    assert_array_equal(read_picture(encoded(speckles, "PNG", exif=turned(9)), name="a.png"), speckles)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF"])
def test_truncated_picture(speckles: Pixels, kind: str) -> None:
    content = encoded(speckles, kind)
    with pytest.raises(SlideError, match=r"^cell: .*(damaged or truncated|truncated: copy).*again"):
        read_picture(content[: len(content) * 2 // 3], name="cell")
    with pytest.raises(SlideError, match=r"^cell: "):
        read_picture(content[:20], name="cell")


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_jpeg_filled_up_with_zeros_is_damaged(speckles: Pixels, options: dict[str, Any]) -> None:
    content = encoded(speckles, "JPEG", **options)
    whole = read_picture(content, name="a.jpg")
    assert_array_equal(read_picture(content + bytes(64), name="a.jpg"), whole)  # padding behind its end
    half = len(content) // 2
    with pytest.raises(SlideError, match=r"^a\.jpg: the image is damaged"):
        read_picture(content[: half + 300] + bytes(half - 300), name="a.jpg")


def test_whole_jpegs_that_cannot_be_rgb_are_not_called_damaged() -> None:
    deep = imagecodecs.jpeg8_encode(np.full((8, 8, 3), 2000, np.uint16), bitspersample=12)
    with pytest.raises(SlideError, match=r"^a.jpg: holds 12-bit layers, which cytoseg cannot read. Export it as 8-bit"):
        read_picture(deep, name="a.jpg")
    two = bytearray(imagecodecs.jpeg8_encode(np.full((8, 8, 3), 200, np.uint8)))
    two[two.index(b"\xff\xc0") + 9] = 2  # the number of channels
    with pytest.raises(SlideError, match=r"^a.jpg: holds 2-layer images, which cytoseg cannot read"):
        read_picture(bytes(two), name="a.jpg")


def test_truncated_16_bit_png(speckles: Pixels) -> None:
    content = imagecodecs.png_encode(speckles.astype(np.uint16) * 257)
    with pytest.raises(SlideError, match=r"damaged or truncated"):
        read_picture(content[:2000], name="cell.png")


def test_text_named_png(tmp_path: Path) -> None:
    path = tmp_path / "cell.png"
    path.write_text("<html>404</html>")
    wanted = r"cell.png: is not an image format that cytoseg reads \(it starts with b'<html>40'\)"
    with pytest.raises(SlideError, match=wanted):
        read_picture(path, name="cell.png")
    with pytest.raises(SlideError, match=r"cell.png: is not an image"):
        ImageSlide(path)


def test_empty_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"a.png: is empty. Use PNG, JPEG"):
        read_picture(b"", name="a.png")
    with pytest.raises(SlideError, match=r"a.png: no such file .*Check the path"):
        read_picture(tmp_path / "a.png", name="a.png")
    with pytest.raises(SlideError, match=r"a.png: cannot be read"):
        read_picture(tmp_path, name="a.png")


def test_animation_is_refused(speckles: Pixels) -> None:
    content = encoded(speckles, "WEBP", save_all=True, append_images=[Image.fromarray(255 - speckles)])
    with pytest.raises(SlideError, match=r"an animation of 2 frames. Save the one"):
        read_picture(content, name="a.webp")


def test_tiff_of_several_pages_is_refused(speckles: Pixels) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tif:
        tif.write(speckles, photometric="rgb")
        tif.write(speckles[:20], photometric="rgb")
    with pytest.raises(SlideError, match=r"holds 2 pages. Save the one you want"):
        read_picture(file.getvalue(), name="a.tif")


@pytest.mark.parametrize(
    ("options", "tags"),
    [
        ({"tile": (16, 16)}, (324, 325)),  # written sparsely: a slide would be white there, the library says black
        ({"tile": (16, 16)}, (325,)),
        ({"rowsperstrip": 8}, (273,)),  # the header would be read as pixels
    ],
)
def test_tiles_and_strips_without_data_are_refused(
    tmp_path: Path, speckles: Pixels, options: dict[str, Any], tags: tuple[int, ...]
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, speckles, photometric="rgb", **options)
    assert_array_equal(read_picture(path, name="a.tif"), speckles)
    without_data(path, part=1, tags=tags)
    with pytest.raises(
        SlideError, match=r"^a\.tif: 1 of \d+ tiles or strips hold no data\. Copy or export it again\.$"
    ):
        read_picture(path, name="a.tif")


def test_float_tiff_is_refused() -> None:
    with pytest.raises(SlideError, match=r"a.tif: holds 32-bit floating point values"):
        read_picture(tiff(np.zeros((4, 4), np.float32)), name="a.tif")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_picture_too_large_to_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, speckles: Pixels, kind: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(encoded(speckles, kind))
    monkeypatch.setenv("CYTOSEG_MAX_PICTURE_PX", str(53 * 37))
    assert read_picture(path, name="a").shape == (37, 53, 3)
    monkeypatch.setenv("CYTOSEG_MAX_PICTURE_PX", str(53 * 37 - 1))
    with pytest.raises(SlideError, match=r"a: 53 x 37 is .* that are read whole. Convert it to a tiled TIFF: vips"):
        read_picture(path, name="a")
    with pytest.raises(SlideError, match=r"Convert it to a tiled TIFF"):
        ImageSlide(path)


def test_bomb_is_refused_before_it_is_decoded() -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    content += struct.pack(">I", zlib.crc32(b"IHDR" + header)) + struct.pack(">I", 9) + b"IDAT" + b"\0" * 13
    with pytest.raises(SlideError, match=r"60000 x 60000 is 3600 million pixels, more than the 150 million"):
        read_picture(content, name="a.png")


def test_webp_too_large_for_its_codec(monkeypatch: pytest.MonkeyPatch, speckles: Pixels) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(SlideError, match=r"exceeds limit of 20 pixels.*Convert it to a tiled TIFF"):
        read_picture(encoded(speckles, "WEBP"), name="a.webp")


def test_slide_of_four_colours_is_white_outside(tmp_path: Path, four_colours: Pixels) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(four_colours, "PNG"))
    expected = np.full((6, 8, 3), 255, np.uint8)
    expected[1:5, 1:7] = four_colours
    with ImageSlide(path) as slide:
        assert slide.levels == (Level(Size(6, 4), 1.0),)
        assert_array_equal(slide.read_region(Region(-1, -1, 8, 6)), expected)
        assert_array_equal(slide.read_region(Region(2, 1, 2, 2)), four_colours[1:3, 2:4])
        assert_array_equal(slide.read_region(Region(6, 0, 2, 2)), np.full((2, 2, 3), 255))
        slide.read_region(Region(0, 0, 6, 4))[:] = 0  # a reader's own copy
        assert_array_equal(slide.read_region(Region(0, 0, 6, 4)), four_colours)


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("PNG", {"dpi": (50800, 50800)}, 0.5),
        ("JPEG", {"dpi": (50800, 50800)}, 0.5),
        ("TIFF", {"dpi": (50800, 50800)}, 0.5),
        ("TIFF", {"resolution_unit": 3, "x_resolution": 40000.0, "y_resolution": 40000.0}, 0.25),
        ("TIFF", {"resolution_unit": 1, "x_resolution": 40000.0, "y_resolution": 40000.0}, None),
        ("PNG", {"dpi": (300, 300)}, None),
        ("PNG", {"dpi": (50800, 25400)}, None),
        ("BMP", {"dpi": (50800, 50800)}, None),
        ("PNG", {}, None),
        ("JPEG", {}, None),
    ],
)
def test_mpp_only_where_a_microscope_can_have_it(
    tmp_path: Path, speckles: Pixels, kind: str, options: dict[str, Any], expected: float | None
) -> None:
    path = tmp_path / "a"
    path.write_bytes(encoded(speckles, kind, **options))
    with ImageSlide(path) as slide:
        assert slide.mpp == (None if expected is None else pytest.approx(expected, rel=1e-4))


def test_damaged_header_of_a_slide(tmp_path: Path, speckles: Pixels) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(speckles, "PNG")[:20])
    with pytest.raises(SlideError, match=r"a.png: the header is damaged or truncated"):
        ImageSlide(path)


def test_slide_that_changes_or_goes_while_it_is_open(tmp_path: Path, speckles: Pixels) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(speckles, "PNG"))
    with ImageSlide(path) as slide:
        slide.read_region(Region(0, 0, 1, 1))
        path.write_bytes(encoded(255 - speckles, "PNG"))
        os.utime(path, ns=(1, 1))
        assert_array_equal(slide.read_region(Region(0, 0, 53, 37)), 255 - speckles)
        path.write_bytes(encoded(speckles[:20], "PNG"))
        with pytest.raises(SlideError, match=r"a.png: has changed size since it was opened"):
            slide.read_region(Region(0, 0, 1, 1))
        path.unlink()
        with pytest.raises(SlideError, match=r"a.png: can no longer be read .*Was it moved"):
            slide.read_region(Region(0, 0, 1, 1))


def test_cache_holds_as_many_as_fit_and_the_newest_always(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, speckles: Pixels
) -> None:
    decoded: list[str] = []

    read = image._read

    def counting(source: Path, name: str) -> tuple[Pixels, int, str]:
        decoded.append(name)
        return read(source, name)

    monkeypatch.setattr(image, "_read", counting)
    monkeypatch.setattr(image, "_cache", _cache_of(2 * speckles.nbytes))
    slides = {}
    for name in "abc":
        (tmp_path / name).write_bytes(encoded(speckles, "PNG"))
        slides[name] = ImageSlide(tmp_path / name)
    for name in "abacab":  # c pushes out b, the one not used for longest; then b pushes out c
        slides[name].read_region(Region(0, 0, 1, 1))
    assert decoded == ["a", "b", "c", "b"]
    monkeypatch.setattr(image, "_cache", _cache_of(1))
    for name in "ccc":
        slides[name].read_region(Region(0, 0, 1, 1))
    assert decoded == ["a", "b", "c", "b", "c"]


def test_pickles_as_its_path(tmp_path: Path, speckles: Pixels) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(speckles, "PNG"))
    slide = ImageSlide(path)
    slide.read_region(Region(0, 0, 53, 37))
    again = pickle.loads(pickle.dumps(slide))
    assert again.path == path
    assert len(pickle.dumps(slide)) < 1000
    assert_array_equal(again.read_region(Region(0, 0, 53, 37)), speckles)


def test_threads_read_one_slide_at_once(tmp_path: Path, speckles: Pixels) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(speckles, "PNG"))
    with ImageSlide(path) as slide, ThreadPoolExecutor(4) as pool:
        for found in pool.map(slide.read_region, [Region(3, 5, 20, 10)] * 40):
            assert_array_equal(found, speckles[5:15, 3:23])


@pytest.mark.data
def test_real_fields_are_read(cytoseg_data: Path) -> None:
    field = sorted((cytoseg_data / "cric").glob("*.jpg"))[0]
    with ImageSlide(field) as slide:
        assert slide.levels[0].size.width == 1280
        assert slide.mpp is None
        assert_array_equal(slide.read_region(Region(100, 200, 30, 40)), np.asarray(Image.open(field))[200:240, 100:130])
