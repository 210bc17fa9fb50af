import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Level, Region, Size, downsample_of
from cytoseg.slides.needs_openslide import has_odd_chroma, is_vendors
from cytoseg.slides.open import open_slide, read_at
from cytoseg.slides.tiff import TiffSlide
from tests.slides.jpeg2000s import ycbcr
from tests.slides.philips import write_philips
from tests.slides.tiffs import retag, tile

Write = Callable[..., Path]
Pixels = NDArray[Any]

SIDE = 1008


@pytest.fixture
def picture() -> Pixels:
    """(1008, 1008, 3): white, with one dark square in the last quarter."""
    pixels = np.full((SIDE, SIDE, 3), 240, np.uint8)
    pixels[800:880, 840:936] = 30
    return pixels


@pytest.fixture
def _without_openslide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    monkeypatch.delitem(sys.modules, "cytoseg.slides.openslide", raising=False)


@pytest.mark.parametrize("name", ["a.tif", "a.tiff", "a.svs"])
def test_philips_is_read_as_openslide_reads_it(tmp_path: Path, picture: Pixels, name: str) -> None:
    pytest.importorskip("openslide")
    with open_slide(write_philips(tmp_path / name, picture, mpp=0.25, levels=4)) as slide:
        assert type(slide).__name__ == "OpenSlideSlide"
        assert slide.mpp == 0.25
        assert [level.downsample for level in slide.levels] == [1, 2, 4, 8]


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_what_is_marked_on_level_0_lies_there_on_all_levels(tmp_path: Path, picture: Pixels, factor: int) -> None:
    pytest.importorskip("openslide")
    with open_slide(write_philips(tmp_path / "a.tif", picture, mpp=0.25, levels=4)) as slide:
        found = read_at(slide, Region(512, 512, 488, 488), Size(488 // factor, 488 // factor))
    expected = np.zeros((488, 488), np.bool_)
    expected[288:368, 328:424] = True
    dark, marked = found[..., 0] < 140, expected[::factor, ::factor]
    assert (dark & marked).sum() / (dark | marked).sum() > 0.9


@pytest.mark.usefixtures("_without_openslide")
def test_philips_without_openslide(tmp_path: Path, picture: Pixels) -> None:
    path = write_philips(tmp_path / "a.tif", picture, mpp=0.25, levels=2)
    with pytest.raises(
        SlideError, match=r"a.tif: TIFF files with this layout .* not installed .*pip install 'cytoseg\[opens"
    ):
        open_slide(path)


@pytest.mark.usefixtures("_without_openslide")
def test_others_are_ours_without_openslide_too(write_tiff: Write, speckles: Pixels) -> None:
    with open_slide(write_tiff(speckles, description="Aperio Image Library v11\r\n|MPP = 0.5")) as slide:
        assert type(slide) is TiffSlide
        assert_array_equal(slide.read_region(Region(0, 0, 53, 37)), speckles)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"software": "MedScan"}, True),
        ({"description": '<?xml version="1.0"?><scn xmlns="http://x"></scn>'}, True),
        ({"software": "ScanOutputManager 1.1", "extratags": [(700, 1, 6, b"<iScan", True)]}, True),
        ({"extratags": [(65420, 4, 1, 1, True), (271, 2, 10, b"Hamamatsu\0", True)]}, True),
        ({"software": "Philips", "description": "a holiday"}, False),
        ({"description": "Aperio Image Library v11"}, False),
        ({}, False),
    ],
)
def test_tags_of_vendors(write_tiff: Write, speckles: Pixels, options: dict[str, Any], expected: bool) -> None:
    assert is_vendors(write_tiff(speckles, metadata=None, **options)) == expected


def test_what_cannot_be_opened_is_no_vendors(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0\xff\xff\xff\xff")
    assert not is_vendors(path)
    assert not has_odd_chroma(path)


def test_levels_padded_to_whole_tiles_are_known_without_a_vendor(tmp_path: Path, picture: Pixels) -> None:
    path = write_philips(tmp_path / "a.tif", picture, mpp=0.25, levels=4)
    retag(path, 305, 2, 5, b"vips\0")
    with open_slide(path) as slide:
        assert type(slide) is TiffSlide
        sizes = [Level(Size(SIDE >> n, SIDE >> n), float(2**n)) for n in range(4)]
        assert list(slide.levels) == sizes
        found = slide.read_region(Region(0, 0, SIDE + 16, SIDE + 16), 1)
    assert_array_equal(found[504:], np.full((8, 512, 3), 255))  # the padding is no part of the image
    assert_array_equal(found[400:440, 420:468], np.full((40, 48, 3), 30))


@pytest.mark.parametrize(
    ("sides", "exact"),
    [
        ((276, 144, 80, 48), (276, 138, 69, 35)),  # 48 is 35 padded, but could also be 276 divided by 6 and padded
        ((326, 176, 96, 48), (326, 163, 82, 41)),  # or 326 divided by 7, rounded up and not padded
    ],
)
def test_a_padded_level_s_downsample_is_a_power_of_two(
    tmp_path: Path, sides: Sequence[int], exact: Sequence[int]
) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for level, length in enumerate(sides):
            pixels = np.zeros((length, length, 3), np.uint8)
            tif.write(pixels, tile=(16, 16), photometric="rgb", subfiletype=int(level > 0))
    with open_slide(path) as slide:
        found = [(level.size.width, level.downsample) for level in slide.levels]
    assert found == list(zip(exact, [1.0, 2.0, 4.0, 8.0], strict=True))


@pytest.mark.parametrize("side", [504, 505, 300, 336])
def test_levels_that_are_not_padded_stay_as_they_are(tmp_path: Path, side: int) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for level, length in enumerate([1009, side]):
            pixels = np.zeros((length, length, 3), np.uint8)
            tif.write(pixels, tile=(16, 16), photometric="rgb", subfiletype=level)
    full, size = Size(1009, 1009), Size(side, side)
    with open_slide(path) as slide:
        assert slide.levels == (Level(full, 1.0), Level(size, downsample_of(full, size)))


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("step", [(2, 1), (2, 2)])
def test_chroma_that_only_openslide_knows_goes_there(
    tmp_path: Path, speckles: Pixels, step: tuple[int, int], compression: int
) -> None:
    """Without JPEG halved colours are stored as blocks: some Y, one Cb, one Cr."""
    pytest.importorskip("openslide")
    across, down = step
    drawn = speckles[:8, :8].repeat(8, 0).repeat(8, 1)
    y, *colours = ycbcr(drawn, step)
    height, width = colours[0].shape
    blocks = y.reshape(height, down, width, across).transpose(0, 2, 1, 3).reshape(height, width, down * across)
    data = np.dstack([blocks, *colours]).tobytes()
    path = tile(tmp_path / "a.tif", zlib.compress(data) if compression == 8 else data, 7, photometric="ycbcr")
    retag(retag(path, 530, 3, 2, struct.pack("<HH", *step)), 259, 3, 1, struct.pack("<H", compression))
    assert has_odd_chroma(path)
    with open_slide(path) as slide:
        assert type(slide).__name__ == "OpenSlideSlide"
        assert abs(slide.read_region(Region(0, 0, 64, 64)).astype(int) - drawn).mean() < 1
    with pytest.raises(SlideError, match=r"a.tif: holds colours at half width or height without JPEG"):
        TiffSlide(path)
