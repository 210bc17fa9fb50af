import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from cytoseg.errors import SlideError
from cytoseg.geometry import Level, Region, Size
from cytoseg.slides import open as opening
from cytoseg.slides.image import ImageSlide
from cytoseg.slides.open import find_slides, open_slide, read_at, slide_id
from cytoseg.slides.tiff import TiffSlide

Write = Callable[..., Path]
Pixels = NDArray[Any]


@pytest.mark.parametrize(
    ("name", "tile", "reader"),
    [
        ("a.tif", (16, 16), TiffSlide),
        ("a.SVS", (16, 16), TiffSlide),
        ("a.ome.tif", (16, 16), TiffSlide),
        ("a.tif", None, ImageSlide),
        ("a.png", (16, 16), TiffSlide),  # the content decides
    ],
)
def test_tiff_goes_to_its_reader(
    write_tiff: Write, speckles: Pixels, name: str, tile: tuple[int, int] | None, reader: type
) -> None:
    with open_slide(write_tiff(speckles, name=name, tile=tile)) as slide:
        assert type(slide) is reader
        assert_array_equal(slide.read_region(Region(0, 0, 53, 37)), speckles)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.bmp", "named.tif"])
def test_picture_goes_to_its_reader(tmp_path: Path, speckles: Pixels, name: str) -> None:
    Image.fromarray(speckles).save(tmp_path / name, "PNG")
    with open_slide(tmp_path / name) as slide:
        assert type(slide) is ImageSlide
        assert_array_equal(slide.read_region(Region(0, 0, 53, 37)), speckles)


def test_vendor_format_goes_to_openslide(write_tiff: Write, speckles: Pixels) -> None:
    pytest.importorskip("openslide")
    with open_slide(write_tiff(speckles, name="a.bif", compression="zlib")) as slide:
        assert type(slide).__name__ == "OpenSlideSlide"
        assert_array_equal(slide.read_region(Region(0, 0, 53, 37)), speckles)


def test_vendor_format_without_openslide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    monkeypatch.delitem(sys.modules, "cytoseg.slides.openslide", raising=False)
    (tmp_path / "a.mrxs").write_bytes(b"slide")
    with pytest.raises(
        SlideError, match=r"a.mrxs: .mrxs slides are .* not installed .*pip install 'cytoseg\[openslide\]'"
    ):
        open_slide(tmp_path / "a.mrxs")


def test_zarr_folder_without_zarr(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    monkeypatch.delitem(sys.modules, "cytoseg.slides.zarr", raising=False)
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(SlideError, match=r"a.zarr: OME-Zarr is .* not installed .*pip install 'cytoseg\[zarr\]'"):
        open_slide(tmp_path / "a.zarr")


def test_zarr_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").write_bytes(b"PK")
    with pytest.raises(SlideError, match=r"a.zarr: is a file, but an OME-Zarr slide is a folder. Unpack it"):
        open_slide(tmp_path / "a.zarr")
    with pytest.raises(SlideError, match=r"b.zarr: no such file"):
        open_slide(tmp_path / "b.zarr")


def test_a_path_that_leads_nowhere_is_no_question_of_its_suffix(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"smears_missing: no such file or folder\. Correct the path\.$"):
        open_slide(tmp_path / "smears_missing")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tif", b"<html>Not found", r"a.tif: is not a TIFF, it starts with text: b'<html>Not fo'"),
        ("a.svs", b"\xff\x00\x01\x02", r"a.svs: is not an image format that cytoseg reads"),
        ("a.tif", b"II*\0\xff\0\0\0", r"a.tif: the TIFF header is damaged or truncated"),
        ("a.png", b"text", r"a.png: is not an image format that cytoseg reads"),
        ("a.tif", b"", r"a.tif: is empty. Copy or download it again"),
        ("a.ndpi", b"", r"a.ndpi: is empty"),
        ("a.txt", b"text", r"a.txt: unknown suffix '.txt'. Slides end in .png .jpg"),
        ("a", b"text", r"a: unknown suffix ''"),
    ],
)
def test_what_is_no_slide(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SlideError, match=message):
        open_slide(tmp_path / name)


def test_missing_folder_and_unreadable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"gone.tif: no such file. Check the path"):
        open_slide(tmp_path / "gone.tif")
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(SlideError, match=r"folder.tif: is a folder, not a slide"):
        open_slide(tmp_path / "folder.tif")
    (tmp_path / "locked.tif").write_bytes(b"II*\0")

    def locked(*_: object, **__: object) -> None:
        raise PermissionError("denied")

    monkeypatch.setattr(Path, "open", locked)
    with pytest.raises(SlideError, match=r"locked.tif: cannot be read \(denied\). Check its permissions"):
        open_slide(tmp_path / "locked.tif")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    names = [
        "a/two.svs",
        "a/one.tif",
        "a/ONE.PNG",
        "a/made.ome.tif",
        "a/made.labels.ome.tif",
        "a/made.kinds.ome.tif",
        "a/._one.tif",
        "a/notes.txt",
        "a/deep/three.jpg",
        "b/four.tiff",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "folder.tif").mkdir()
    (tmp_path / "c" / "five.ome.zarr" / "0").mkdir(parents=True)
    for name in ("five.ome.zarr/0/0.0.0", "five.ome.zarr/.zattrs", "file.zarr"):
        (tmp_path / "c" / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ([], [], ["a/ONE.PNG", "a/made.ome.tif", "a/one.tif", "a/two.svs", "b/four.tiff"]),
        (["*.svs", "*.tif*"], [], ["a/made.ome.tif", "a/one.tif", "a/two.svs", "b/four.tiff"]),
        (["**/*.jpg"], [], ["a/deep/three.jpg"]),
        (["*"], ["*.tif", "b/*"], ["a/ONE.PNG", "a/two.svs"]),
        (["*.svs", "two.*"], [], ["a/two.svs"]),
    ],
)
def test_slides_are_found(folders: Path, include: list[str], exclude: list[str], expected: list[str]) -> None:
    found = find_slides([folders / "b", folders / "a", folders / "a"], include, exclude)
    assert found == [folders / name for name in expected]


@pytest.mark.parametrize("include", [[], ["**/*"], ["*.zarr"]])
def test_a_zarr_folder_is_a_slide(folders: Path, include: list[str]) -> None:
    assert find_slides([folders / "c"], include) == [folders / "c" / "five.ome.zarr"]


def test_nothing_found(folders: Path) -> None:
    with pytest.raises(SlideError, match=r"no slide in .*b \(include: \*.svs; 0 left out by exclude\). Write"):
        find_slides([folders / "b"], ["*.svs"])
    with pytest.raises(SlideError, match=r"include: \*; 1 left out by exclude"):
        find_slides([folders / "b"], [], ["four.*"])
    with pytest.raises(SlideError, match="no slide in no folder"):
        find_slides([])


@pytest.mark.parametrize(
    ("include", "exclude"),
    [(["/data/*.svs"], []), ([""], []), (["*"], ["/old/*"]), (["*"], [""])]
    + [([odd], []) for odd in (".", "./", "**x", "a/**b", "a\0b")],
)
def test_glob_that_is_not_within_a_folder(folders: Path, include: list[str], exclude: list[str]) -> None:
    with pytest.raises(SlideError, match=r"is not a glob within a folder. Write it without the folder"):
        find_slides([folders / "b"], include, exclude)


def test_all_missing_folders_are_named(folders: Path) -> None:
    with pytest.raises(SlideError, match=r"2 problems.*\n.*gone: no such folder.*\n.*one.tif: is a file"):
        find_slides([folders / "gone", folders / "a", folders / "a" / "one.tif"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("folder/a.svs", "a"),
        ("a.ome.tif", "a"),
        ("a.OME.TIFF", "a"),
        ("a.ome.zarr", "a"),
        ("a.zarr/", "a"),
        ("a.b.tif", "a.b"),
        ("case 7.2.ome.tif", "case 7.2"),
        ("a", "a"),
    ],
)
def test_slide_id(name: str, expected: str) -> None:
    assert slide_id(Path(name)) == expected


def test_read_at_copies_exactly_where_sizes_agree(write_pyramid: Write, speckles: Pixels) -> None:
    levels = [speckles, speckles[:36:2, :52:2]]
    with open_slide(write_pyramid(levels, name="a.tif", subifds=False)) as slide:
        assert_array_equal(read_at(slide, Region(4, 6, 10, 12), Size(10, 12)), speckles[6:18, 4:14])
        assert_array_equal(read_at(slide, Region(4, 6, 10, 12), Size(5, 6)), levels[1][3:9, 2:7])
        outside = read_at(slide, Region(-4, -4, 8, 8), Size(4, 4))
        assert_array_equal(outside[:2], np.full((2, 4, 3), 255))
        assert_array_equal(outside[2:, 2:], levels[1][:2, :2])


def test_read_at_takes_the_mean_of_whole_pixels(write_tiff: Write, four_colours: Pixels) -> None:
    with open_slide(write_tiff(four_colours)) as slide:
        # One column of four colours: the mean of red and green above that of blue and yellow.
        found = read_at(slide, Region(0, 0, 6, 4), Size(1, 2))
        assert_array_equal(found, [[[100, 100, 0]], [[100, 100, 100]]])
        assert_array_equal(read_at(slide, Region(0, 0, 6, 4), Size(2, 2)), four_colours[::2, ::3])


def test_read_at_decides_by_the_finer_direction(write_pyramid: Write, speckles: Pixels) -> None:
    levels = [speckles, np.zeros((18, 26, 3), np.uint8)]
    with open_slide(write_pyramid(levels, name="a.tif", subifds=False)) as slide:
        assert read_at(slide, Region(0, 0, 32, 16), Size(16, 16)).any()
        assert not read_at(slide, Region(0, 0, 32, 16), Size(16, 8)).any()


@pytest.mark.parametrize("size", [Size(7, 5), Size(24, 16), Size(100, 3), Size(1, 1), Size(6, 4)])
def test_read_at_keeps_a_constant_constant_at_any_size(write_tiff: Write, size: Size) -> None:
    with open_slide(write_tiff(np.full((40, 60, 3), (10, 130, 250), np.uint8))) as slide:
        found = read_at(slide, Region(0, 0, 60, 40), size)
    assert_array_equal(found, np.broadcast_to((10, 130, 250), (size.height, size.width, 3)))


class Counting:
    """One level of 400 x 200 that remembers how much was asked for at a time."""

    path = Path("counting")
    mpp = None
    levels = (Level(Size(400, 200), 1.0),)

    def __init__(self) -> None:
        self.largest = 0
        y, x = np.mgrid[:200, :400]
        self.pixels = np.stack([x // 4, y, np.full_like(x, 9)], axis=-1).astype(np.uint8)

    def read_region(self, region: Region, level: int = 0) -> NDArray[np.uint8]:
        self.largest = max(self.largest, region.width * region.height)
        return self.pixels[region.y : region.y + region.height, region.x : region.x + region.width]

    def close(self) -> None:
        pass

    def __enter__(self) -> "Counting":
        return self

    def __exit__(self, *exc: object) -> None:
        pass


@pytest.mark.parametrize("size", [Size(40, 20), Size(100, 4), Size(20, 10)])
def test_read_at_takes_large_regions_in_pieces(monkeypatch: pytest.MonkeyPatch, size: Size) -> None:
    whole, pieces = Counting(), Counting()
    expected = read_at(whole, Region(0, 0, 400, 200), size)
    assert whole.largest == 80_000
    monkeypatch.setattr(opening, "_BLOCK_PX", 3000)
    found = read_at(pieces, Region(0, 0, 400, 200), size)
    assert pieces.largest <= 3000
    assert_array_equal(found, expected)


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"gr\xf6sse.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(path)
    with pytest.raises(SlideError, match=r"gr\\udcf6sse\.png: the name is not UTF-8\. Rename the file"):
        open_slide(path)
