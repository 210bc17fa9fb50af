import errno
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Level, Region, Size
from cytoseg.slides.tiff import TiffSlide, on_white, to_8bit
from tests.slides.tiffs import without_data

Write = Callable[..., Path]
Pixels = NDArray[Any]


def whole(path: Path, level: int = 0) -> NDArray[np.uint8]:
    with TiffSlide(path) as slide:
        size = slide.levels[0].size
        return slide.read_region(Region(0, 0, size.width, size.height), level)


def grey(pixels: Pixels) -> Pixels:
    return np.repeat(pixels[..., :1], 3, axis=2)


def test_values_of_any_depth_scale_to_the_nearest_of_256() -> None:
    assert_array_equal(to_8bit(np.array([0, 128, 129, 257, 65535], np.uint16), 16), [0, 0, 1, 1, 255])
    assert_array_equal(to_8bit(np.array([0, 2048, 4095], np.uint16), 12), [0, 128, 255])
    assert_array_equal(to_8bit(np.array([False, True]), 1), [0, 255])
    assert_array_equal(to_8bit(np.array([7], np.uint8), 8), [7])


def test_transparency_is_laid_on_white() -> None:
    pixels = np.array([[[100, 0, 0, 255], [100, 0, 0, 0], [100, 50, 0, 51]]], np.uint8)
    # A fifth of the colour and four fifths of white.
    assert_array_equal(on_white(pixels), [[[100, 0, 0], [255, 255, 255], [224, 214, 204]]])
    assert_array_equal(on_white(np.array([[[20, 10, 0, 51]]], np.uint8), premultiplied=True), [[[224, 214, 204]]])


def test_four_colours_and_white_outside(write_tiff: Write, four_colours: Pixels) -> None:
    with TiffSlide(write_tiff(four_colours)) as slide:
        assert slide.levels == (Level(Size(6, 4), 1.0),)
        assert slide.mpp is None
        found = slide.read_region(Region(-1, -1, 8, 6))
    expected = np.full((6, 8, 3), 255, np.uint8)
    expected[1:5, 1:7] = four_colours
    assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "region",
    [
        Region(0, 0, 53, 37),
        Region(15, 15, 2, 2),
        Region(16, 16, 16, 16),
        Region(48, 32, 30, 30),
        Region(-20, 5, 30, 3),
        Region(52, 36, 1, 1),
    ],
)
def test_region_is_the_same_part_of_the_whole(write_tiff: Write, speckles: Pixels, region: Region) -> None:
    padded = np.full((37 + 200, 53 + 200, 3), 255, np.uint8)
    padded[100:137, 100:153] = speckles
    y, x = region.y + 100, region.x + 100
    with TiffSlide(write_tiff(speckles)) as slide:
        assert_array_equal(slide.read_region(region), padded[y : y + region.height, x : x + region.width])


@pytest.mark.parametrize("region", [Region(53, 0, 4, 4), Region(0, -9, 4, 4), Region(1000, 1000, 4, 4)])
def test_region_beyond_the_slide_is_white(write_tiff: Write, speckles: Pixels, region: Region) -> None:
    with TiffSlide(write_tiff(speckles)) as slide:
        assert_array_equal(slide.read_region(region), np.full((4, 4, 3), 255))


def test_only_the_tiles_touched_are_decoded(write_tiff: Write, speckles: Pixels) -> None:
    path = write_tiff(speckles, compression="zlib")
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * 20)
    with TiffSlide(path) as slide:
        assert_array_equal(slide.read_region(Region(16, 0, 37, 37)), speckles[:, 16:])
        with pytest.raises(SlideError, match=r"slide.tif: tile 0 at x 0, y 0 is damaged .*Copy the file again"):
            slide.read_region(Region(15, 15, 2, 2))


def stored() -> list[Any]:
    rgb = np.random.default_rng(1).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    table = np.stack([np.arange(256) * 257, np.arange(256)[::-1] * 257, np.zeros(256)]).astype(np.uint16)
    one = rgb[..., 0].copy()
    alpha = np.dstack([rgb, np.full((37, 53), 51, np.uint8)])
    inverse = np.dstack([255 - rgb, np.zeros((37, 53), np.uint8)])
    by_hand = {"photometric": "rgb"}
    cases = {
        "planar": (np.moveaxis(rgb, 2, 0).copy(), {"photometric": "rgb", "planarconfig": "separate"}, rgb),
        "16 bit": (rgb.astype(np.uint16) * 257, by_hand, rgb),
        "big-endian BigTIFF": (rgb.astype(np.uint16) * 257, by_hand | {"byteorder": ">", "bigtiff": True}, rgb),
        "grey": (one, {"photometric": "minisblack"}, grey(rgb)),
        "grey, white is 0": (one, {"photometric": "miniswhite"}, 255 - grey(rgb)),
        "one bit": (one > 99, {"photometric": "minisblack"}, grey((rgb > 99) * np.uint8(255))),
        "palette": (one, {"photometric": "palette", "colormap": table}, np.dstack([one, 255 - one, one * 0])),
        "old palette": (
            one,
            {"photometric": "palette", "colormap": table // 257},
            np.dstack([one, 255 - one, one * 0]),
        ),
        "RGBA": (alpha, by_hand | {"extrasamples": ["unassalpha"]}, on_white(alpha)),
        "fourth channel without a meaning": (alpha, by_hand | {"extrasamples": ["unspecified"]}, rgb),
        "CMYK": (inverse, {"photometric": "separated"}, rgb),
        "LZW": (rgb, by_hand | {"compression": "lzw", "predictor": True}, rgb),
        "JPEG 2000": (
            rgb,
            by_hand | {"compression": "jpeg2000", "compressionargs": {"reversible": True, "level": 0}},
            rgb,
        ),
    }
    return [pytest.param(*case, id=name) for name, case in cases.items()]


@pytest.mark.parametrize(("pixels", "options", "expected"), stored())
def test_everything_comes_out_as_rgb(
    write_tiff: Write, pixels: Pixels, options: dict[str, Any], expected: Pixels
) -> None:
    assert_array_equal(whole(write_tiff(pixels, **options)), expected)


@pytest.mark.parametrize(
    ("photometric", "options"),
    [
        ("ycbcr", {"compression": None}),
        # Aperio's first JPEG 2000 leaves the colours as they are, and says nothing of it but the number.
        ("rgb", {"compression": 33003, "compressionargs": {"mct": False, "reversible": True, "level": 0}}),
    ],
)
def test_ycbcr_that_no_codec_turns_back(write_tiff: Write, photometric: str, options: dict[str, Any]) -> None:
    # Pure red, grey and pure blue in JFIF's YCbCr.
    ycbcr = np.array([[[76, 85, 255], [128, 128, 128], [29, 255, 107]]], np.uint8).repeat(6, 0).repeat(2, 1)
    found = whole(write_tiff(ycbcr, photometric=photometric, **options)).astype(int)
    expected = np.array([[254, 0, 0], [128, 128, 128], [0, 0, 254]])
    assert abs(found[0, ::2] - expected).max() <= 1


@pytest.mark.parametrize("space", ["rgb", "ycbcr"])
def test_jpeg_tiles_agree_exactly_with_a_full_decode(write_tiff: Write, four_colours: Pixels, space: str) -> None:
    big = four_colours.repeat(11, 0).repeat(13, 1)
    path = write_tiff(big, compression="jpeg", compressionargs={"outcolorspace": space})
    assert_array_equal(whole(path), tifffile.imread(path))
    assert abs(whole(path)[5, 5].astype(int) - [200, 0, 0]).max() < 12


@pytest.mark.parametrize(("name", "subifds"), [("flat.tif", False), ("sub.ome.tif", True)])
def test_pyramid(write_pyramid: Write, speckles: Pixels, name: str, subifds: bool) -> None:
    levels = [speckles, speckles[:36:2, :52:2], speckles[:36:4, :52:4]]
    with TiffSlide(write_pyramid(levels, name=name, subifds=subifds)) as slide:
        assert slide.levels == (Level(Size(53, 37), 1.0), Level(Size(26, 18), 2.0), Level(Size(13, 9), 4.0))
        assert_array_equal(slide.read_region(Region(20, 12, 8, 8), 1), levels[1][6:10, 10:14])
        assert_array_equal(slide.read_region(Region(20, 12, 8, 8), 2), levels[2][3:5, 5:7])
        assert_array_equal(slide.read_region(Region(48, 36, 8, 8), 1)[:, 2:], np.full((4, 2, 3), 255))


def test_level_whose_size_is_no_whole_part(write_pyramid: Write, speckles: Pixels) -> None:
    with TiffSlide(write_pyramid([speckles, speckles[:25, :35]], name="a.tif", subifds=False)) as slide:
        assert slide.levels[1].downsample == pytest.approx((53 / 35 + 37 / 25) / 2)


def test_label_and_macro_are_no_levels(write_pyramid: Write, speckles: Pixels) -> None:
    label, thumbnail = np.zeros((16, 48, 3), np.uint8), speckles[::2, ::2]
    path = write_pyramid([speckles, label], name="slide.svs", subifds=False)
    tifffile.imwrite(path, thumbnail, append=True, photometric="rgb")
    with TiffSlide(path) as slide:
        assert slide.levels == (Level(Size(53, 37), 1.0),)
        assert_array_equal(slide.read_region(Region(0, 0, 53, 37)), speckles)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"description": "Aperio Image Library v1\n53x37|AppMag = 20|MPP = 0.4990|Left = 25"}, 0.499),
        ({"description": "Aperio Image Library v1\n53x37|MPP = 1.2.3"}, None),
        ({"resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}, 0.25),
        ({"resolution": (50800, 50800), "resolutionunit": "INCH"}, 0.5),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (40000, 40000), "resolutionunit": "NONE"}, None),
        ({}, None),
    ],
)
def test_mpp(write_tiff: Write, speckles: Pixels, options: dict[str, Any], expected: float | None) -> None:
    with TiffSlide(write_tiff(speckles, metadata=None, **options)) as slide:
        assert slide.mpp == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [(0.25, None, 0.25), (250, "nm", 0.25), (0.00025, "mm", 0.25), (0.25, "pixel", None), (300, "µm", None)],
)
def test_mpp_of_ome(write_tiff: Write, speckles: Pixels, size: float, unit: str | None, expected: float | None) -> None:
    metadata = {"PhysicalSizeX": size} | ({"PhysicalSizeXUnit": unit} if unit else {})
    with TiffSlide(write_tiff(speckles, name="a.ome.tif", ome=True, metadata=metadata)) as slide:
        assert slide.mpp == (None if expected is None else pytest.approx(expected))


def test_mpp_of_damaged_ome_is_not_said(write_tiff: Write, speckles: Pixels) -> None:
    cut = '<?xml version="1.0"?><OME><Image><Pixels PhysicalSizeX="0.5" </OME>'
    with TiffSlide(write_tiff(speckles, description=cut, metadata=None)) as slide:
        assert slide.mpp is None
    words = '<?xml version="1.0"?><OME><Image><Pixels PhysicalSizeX="half"/></Image></OME>'
    with TiffSlide(write_tiff(speckles, description=words, metadata=None)) as slide:
        assert slide.mpp is None


def test_missing_tile_is_white(write_tiff: Write, speckles: Pixels) -> None:
    path = write_tiff(speckles)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        counts = list(tif.pages[0].databytecounts)
        counts[5] = 0
        tif.pages[0].tags["TileByteCounts"].overwrite(counts)
    expected = speckles.copy()
    expected[16:32, 16:32] = 255
    assert_array_equal(whole(path), expected)


def test_jpeg_tile_filled_up_with_zeros_is_damaged(write_tiff: Write, speckles: Pixels) -> None:
    path = write_tiff(speckles, compression="jpeg")
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        start, length = page.dataoffsets[1], page.databytecounts[1]
    content = bytearray(path.read_bytes())
    content[start + length - 60 : start + length] = bytes(60)
    path.write_bytes(content)
    with TiffSlide(path) as slide, pytest.raises(SlideError, match=r"tile 1 at .* is damaged \(its end is missing\)"):
        slide.read_region(Region(0, 0, speckles.shape[1], speckles.shape[0]))


def test_tile_whose_place_is_the_header_is_damaged(write_tiff: Write, speckles: Pixels) -> None:
    path = write_tiff(speckles)
    without_data(path, part=1, tags=[324])
    with (
        TiffSlide(path) as slide,
        pytest.raises(SlideError, match=r"tile 1 at x \d+, y 0 is damaged \(it has no place"),
    ):
        slide.read_region(Region(0, 0, speckles.shape[1], speckles.shape[0]))


def test_pickles_as_its_path_and_opens_again(write_tiff: Write, speckles: Pixels) -> None:
    with TiffSlide(write_tiff(speckles)) as slide, pickle.loads(pickle.dumps(slide)) as again:
        slide.close()
        assert again.path == slide.path
        assert_array_equal(again.read_region(Region(0, 0, 53, 37)), speckles)
        assert len(pickle.dumps(slide)) < 1000


def test_threads_read_one_slide_at_once(write_tiff: Write, speckles: Pixels) -> None:
    regions = [Region(x, y, 9, 9) for x in range(0, 44, 3) for y in range(0, 28, 3)]
    with TiffSlide(write_tiff(speckles, compression="zlib")) as slide, ThreadPoolExecutor(4) as pool:
        for region, found in zip(regions, pool.map(slide.read_region, regions), strict=True):
            assert_array_equal(found, speckles[region.y : region.y + 9, region.x : region.x + 9])


def test_file_cut_among_its_tiles(write_tiff: Write, speckles: Pixels) -> None:
    path = write_tiff(speckles)
    path.write_bytes(path.read_bytes()[:-800])
    with TiffSlide(path) as slide:
        told = "truncated at level 0: 2 of 12 tiles lie beyond the end of the file; the first is tile 10"
        assert slide.damage == told
        assert slide.note == ""
        assert_array_equal(slide.read_region(Region(0, 0, 53, 32)), speckles[:32])
        assert_array_equal(slide.read_region(Region(0, 32, 32, 5)), speckles[32:, :32])
        with pytest.raises(SlideError, match=r"slide.tif: truncated, tile 10 at x 32, y 32 is cut off. Copy the file"):
            slide.read_region(Region(0, 30, 33, 3))
    with TiffSlide(write_tiff(speckles)) as slide:
        assert slide.damage == ""


@pytest.mark.parametrize(("name", "subifds"), [("flat.tif", False), ("sub.ome.tif", True)])
def test_pyramid_cut_in_a_coarse_level_is_read_without_it(
    write_pyramid: Write, speckles: Pixels, name: str, subifds: bool
) -> None:
    path = write_pyramid([speckles, speckles[:36:2, :52:2], speckles[:36:4, :52:4]], name=name, subifds=subifds)
    with TiffSlide(path) as slide:
        ends = [int((table._offsets + table._counts).max()) for table in slide._tiles]
    content = path.read_bytes()
    path.write_bytes(content[: ends[2] - 100])
    with TiffSlide(path) as slide:
        assert [level.downsample for level in slide.levels] == [1.0, 2.0]
        assert slide.damage.startswith("truncated at level 2: 1 of 1 tiles lie beyond")
        assert_array_equal(slide.read_region(Region(0, 0, 52, 36), 1), speckles[:36:2, :52:2])
    path.write_bytes(content[: ends[0] - 100])
    with TiffSlide(path) as slide:
        assert [level.downsample for level in slide.levels] == [1.0]
        assert slide.damage.startswith("truncated at level 0: 1 of 12 tiles lie beyond")
        assert_array_equal(slide.read_region(Region(0, 0, 53, 32)), speckles[:32])


def test_a_disk_that_fails_is_the_slides_own(
    write_tiff: Write, speckles: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with TiffSlide(write_tiff(speckles)) as slide:
        monkeypatch.setattr("cytoseg.slides.tile_table._read_at", failing)
        wanted = r"slide.tif: tile 5 at x 16, y 16 cannot be read \(.*Input/output error\). Check its disk"
        with pytest.raises(SlideError, match=wanted):
            slide.read_region(Region(20, 20, 4, 4))


def test_without_pread_threads_still_read_their_own_tiles(
    write_tiff: Write, speckles: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows has none: one file position is shared by all threads."""
    with TiffSlide(write_tiff(speckles)) as slide:
        regions = [Region(x, y, 20, 20) for x in range(0, 40, 7) for y in range(0, 40, 7)]
        wanted = [slide.read_region(region) for region in regions]
        monkeypatch.delattr(os, "pread")
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(slide.read_region, regions))
    for one, other in zip(found, wanted, strict=True):
        assert_array_equal(one, other)


def test_file_cut_while_it_is_open(write_tiff: Write, speckles: Pixels) -> None:
    path = write_tiff(speckles)
    with TiffSlide(path) as slide:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 10)
        with pytest.raises(SlideError, match=r"truncated, tile 11 at x 48, y 32 is cut off"):
            slide.read_region(Region(50, 36, 1, 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"II*\0\x08\0\0\0\0\0", "holds colours of the kind 0"),
        (b"II*\0\xff\0\0\0", r"the TIFF header is damaged or truncated \(.*Copy the file again"),
        (b"I am no TIFF at all", r"not a readable TIFF \(.*It may be truncated"),
    ],
)
def test_file_cut_before_its_header(tmp_path: Path, content: bytes, message: str) -> None:
    cut = tmp_path / "cut.tif"
    cut.write_bytes(content)
    with pytest.raises(SlideError, match=f"cut.tif: {message}"):
        TiffSlide(cut)


def overwrite(path: Path, tag: str, value: Any) -> None:
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages[0].tags[tag].overwrite(value)


def test_tiles_that_do_not_cover_the_slide(write_tiff: Write, speckles: Pixels) -> None:
    path = write_tiff(speckles)
    overwrite(path, "ImageLength", 370)
    with pytest.raises(SlideError, match=r"lists 12 tiles where 96 are needed"):
        TiffSlide(path)


def test_damaged_offsets(write_tiff: Write, speckles: Pixels) -> None:
    path = write_tiff(speckles, bigtiff=True)
    overwrite(path, "TileOffsets", [2**64 - 1] * 12)
    with pytest.raises(SlideError, match=r"the TIFF is damaged"):
        TiffSlide(path)


def test_turned_slide_is_refused(write_tiff: Write, speckles: Pixels) -> None:
    path = write_tiff(speckles, extratags=[("Orientation", 3, 1, 6, False)])
    with pytest.raises(SlideError, match=r"stored rotated \(orientation 6\).*vips"):
        TiffSlide(path)


def test_tiff_without_tiles_is_refused(write_tiff: Write, speckles: Pixels) -> None:
    with pytest.raises(SlideError, match=r"an untiled TIFF. Use open_slide, or convert it"):
        TiffSlide(write_tiff(speckles, tile=None))


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "found"),
    [
        ((20, 20), np.float32, {}, "holds 32-bit floating point values"),
        ((20, 20), np.int16, {}, "holds 16-bit signed values"),
        ((20, 20), np.uint32, {}, "holds 32-bit unsigned values"),
        ((20, 20, 5), np.uint8, {"planarconfig": "contig"}, "holds 5 channels of the kind MINISBLACK"),
        ((20, 20, 3), np.uint8, {"photometric": "cielab"}, "holds colours of the kind CIELAB"),
        ((3, 20, 20), np.uint8, {}, r"contains 3 pages of one size \(z-planes"),
        ((3, 20, 20), np.uint8, {"ome": True, "metadata": {"axes": "CYX"}}, "contains 3 channels"),
        ((3, 20, 20), np.uint8, {"imagej": True, "metadata": {"axes": "TYX"}}, "contains 3 time points"),
        ((32, 32, 32), np.uint8, {"volumetric": True, "tile": (16, 16, 16)}, "holds a volume of 32 planes"),
    ],
)
def test_what_is_no_rgb_picture_is_refused_by_name(
    write_tiff: Write, shape: tuple[int, ...], dtype: Any, options: dict[str, Any], found: str
) -> None:
    options = {"photometric": "minisblack"} | options
    with pytest.raises(SlideError, match=rf"slide.tif: {found}"):
        TiffSlide(write_tiff(np.zeros(shape, dtype), **options))


def test_unknown_compression_is_refused(write_tiff: Write, speckles: Pixels) -> None:
    path = write_tiff(speckles)
    overwrite(path, "Compression", 6)
    with pytest.raises(SlideError, match=r"holds the compression OJPEG"):
        TiffSlide(path)


def test_empty_picture_is_refused(write_tiff: Write, speckles: Pixels) -> None:
    path = write_tiff(speckles)
    overwrite(path, "ImageWidth", 0)
    with pytest.raises(SlideError, match=r"holds no pixels"):
        TiffSlide(path)


@pytest.mark.data
def test_real_svs_agrees_with_openslide(cytoseg_data: Path) -> None:
    openslide = pytest.importorskip("openslide")
    path = cytoseg_data / "wsi" / "CMU-1-Small-Region.svs"
    with TiffSlide(path) as ours, openslide.OpenSlide(path) as theirs:
        assert ours.levels == (Level(Size(2220, 2967), 1.0),)
        assert ours.mpp == pytest.approx(float(theirs.properties["openslide.mpp-x"]))
        for x, y in [(0, 0), (1000, 1400), (700, 2100), (2000, 2800)]:
            expected = np.asarray(theirs.read_region((x, y), 0, (220, 167)))[..., :3].astype(int)
            found = ours.read_region(Region(x, y, 220, 167)).astype(int)
            assert abs(found - expected).max() <= 4
            assert abs(found - expected).mean() < 0.5


@pytest.mark.data
def test_real_pyramid_agrees_exactly_with_a_full_decode(cytoseg_data: Path) -> None:
    path = cytoseg_data / "wsi" / "lbc_mosaic_pyramid.tif"
    with TiffSlide(path) as slide:
        assert [level.downsample for level in slide.levels] == [1.0, 2.0, 4.0]
        for level in range(3):
            found = slide.read_region(Region(0, 0, 4064, 1520), level)
            assert_array_equal(found, tifffile.imread(path, key=level))


@pytest.mark.parametrize("subifds", [False, True])
def test_an_open_slide_keeps_no_list_of_its_tiles_but_its_own(
    write_pyramid: Write, speckles: Pixels, subifds: bool
) -> None:
    """tifffile's take 25 MB for a slide of 100,000 px a side, ten times what the arrays take."""
    name = "a.ome.tif" if subifds else "a.tif"
    with TiffSlide(write_pyramid([speckles, speckles[::2, ::2]], name=name, subifds=subifds)) as slide:
        for page in slide._pages:
            assert (len(page.dataoffsets), len(page.databytecounts)) == (0, 0)
            assert not {273, 279, 324, 325} & {tag.code for tag in page.tags}
        assert_array_equal(slide.read_region(Region(0, 0, 53, 37)), speckles)
        assert_array_equal(slide.read_region(Region(0, 0, 53, 37), level=1), speckles[::2, ::2][:18, :26])
