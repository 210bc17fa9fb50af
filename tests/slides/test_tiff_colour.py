"""Colours of TIFF tiles by compression, colour space and chroma, against OpenSlide and the drawn image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from cytoseg.errors import SlideError
from cytoseg.geometry import Region
from cytoseg.slides.image import read_picture
from cytoseg.slides.open import open_slide
from cytoseg.slides.tiff import TiffSlide
from tests.slides.jpeg2000s import encode, ycbcr
from tests.slides.tiffs import PHOTOMETRIC, SIDE, tile

Write = Callable[..., Path]
Pixels = NDArray[Any]


@pytest.fixture(scope="module")
def drawn() -> Pixels:
    """(64, 64, 3) uint8: patches of 8 px, so that halved colours are the same colours."""
    return np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)


def read(path: Path) -> Pixels:
    with open_slide(path) as slide:
        return slide.read_region(Region(0, 0, SIDE, SIDE)).astype(int)


def theirs(path: Path) -> Pixels:
    openslide = pytest.importorskip("openslide")
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), 0, (SIDE, SIDE)))[..., :3].astype(int)


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
@pytest.mark.parametrize("step", [(1, 1), (2, 1), (2, 2), (1, 2)], ids=["444", "422", "420", "440"])
def test_ycbcr_of_aperio(tmp_path: Path, drawn: Pixels, step: tuple[int, int], photometric: str) -> None:
    data = encode(ycbcr(drawn, step), [(1, 1), step, step])
    path = tile(tmp_path / "a.svs", data, 33003, photometric=photometric)
    found = read(path)
    assert abs(found - drawn).mean() < 1
    assert abs(found - theirs(path)).max() <= 1


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
@pytest.mark.parametrize("step", [(1, 1), (2, 1), (2, 2)], ids=["444", "422", "420"])
def test_rgb_of_aperio(tmp_path: Path, drawn: Pixels, step: tuple[int, int], photometric: str) -> None:
    halved = [drawn[..., 0], *(drawn[:: step[1], :: step[0], i] for i in (1, 2))]
    path = tile(tmp_path / "a.svs", encode(halved, [(1, 1), step, step]), 33005, photometric=photometric)
    if step != (1, 1):
        pytest.importorskip("openslide")
        with pytest.raises(SlideError, match=r"a.svs: holds JPEG 2000 whose channels have samples every 1x1 and 2x"):
            TiffSlide(path)
    assert abs(read(path) - drawn).max() == 0


@pytest.mark.parametrize("compression", [33005, 34712])
def test_a_transform_of_the_codec_s_own_is_turned_back_once(tmp_path: Path, drawn: Pixels, compression: int) -> None:
    data = imagecodecs.jpeg2k_encode(drawn, level=0, reversible=True, mct=True, codecformat="j2k")
    for photometric in PHOTOMETRIC:
        path = tile(tmp_path / "a.svs", data, compression, photometric=photometric)
        assert abs(read(path) - drawn).max() == 0


@pytest.mark.parametrize("step", [(1, 1), (2, 1), (2, 2)], ids=["444", "422", "420"])
def test_ycbcr_of_others_says_so_in_the_tag(tmp_path: Path, drawn: Pixels, step: tuple[int, int]) -> None:
    data = encode(ycbcr(drawn, step), [(1, 1), step, step])
    path = tile(tmp_path / "a.tif", data, 34712, photometric="ycbcr")
    assert abs(read(path) - drawn).mean() < 1
    # Read whole, as images of labels are.
    assert abs(read_picture(path, name="a").astype(int) - drawn).mean() < 1


@pytest.mark.parametrize("space", ["rgb", "ycbcr"])
@pytest.mark.parametrize("step", [(1, 1), (2, 1), (2, 2), (1, 2)], ids=["444", "422", "420", "440"])
def test_jpeg(tmp_path: Path, drawn: Pixels, space: str, step: tuple[int, int]) -> None:
    options = {"subsampling": step} if space == "ycbcr" else {}
    data = imagecodecs.jpeg8_encode(drawn, level=98, outcolorspace=space, **options)
    path = tile(tmp_path / "a.svs", data, 7, photometric=space)
    found = read(path)
    assert abs(found - drawn).mean() < 9  # the edges of patches are blurred
    assert abs(found - theirs(path)).max() <= 1


@pytest.mark.parametrize("content", [b"", b"\xff\x4f\xff\x51", b"\xff\x4f\xff\x51\0\2", b"\xff\x4f\xff\x51\xff\xff\1"])
def test_a_damaged_codestream_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tile(tmp_path / "a.svs", b"junk" + content, 33003)
    with pytest.raises(SlideError, match=r"a.svs: tile 0 at x 0, y 0 is damaged"):
        read(path)


@pytest.mark.parametrize(
    ("limits", "is_read"), [((0, 255, 128, 255, 128, 255), True), ((15, 235, 128, 240, 128, 240), False)]
)
def test_ycbcr_of_a_reduced_range_is_refused(
    tmp_path: Path, drawn: Pixels, limits: tuple[int, ...], is_read: bool
) -> None:
    """Video stores black as 16 and white as 235: such colours were read as paler ones."""
    path, stored = tmp_path / "a.tif", np.asarray(Image.fromarray(drawn).convert("YCbCr"))
    tag = (532, "2I", 6, tuple(number for limit in limits for number in (limit, 1)), True)
    tifffile.imwrite(path, stored, photometric="ycbcr", compression="lzw", subsampling=(1, 1), extratags=[tag])
    if is_read:
        assert abs(read_picture(path, name="a.tif").astype(int) - drawn).max() <= 3
        return
    with pytest.raises(SlideError, match=r"^a\.tif: holds YCbCr whose black and white are not 0 and 255, which"):
        read_picture(path, name="a.tif")


def test_inks_other_than_those_of_cmyk_are_refused(tmp_path: Path, drawn: Pixels) -> None:
    path, inks = tmp_path / "a.tif", np.dstack([255 - drawn, np.zeros(drawn.shape[:2], np.uint8)])
    tifffile.imwrite(path, inks, photometric="separated")
    assert abs(read_picture(path, name="a.tif").astype(int) - drawn).max() == 0
    tifffile.imwrite(path, inks, photometric="separated", extratags=[(332, "H", 1, 2, True)])
    with pytest.raises(SlideError, match=r"^a\.tif: holds inks other than those of CMYK, which"):
        read_picture(path, name="a.tif")
