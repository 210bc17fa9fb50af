import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cytoseg.errors import SlideError
from cytoseg.maps.raster import Raster
from cytoseg.slides.image import read_picture
from cytoseg.slides.open import open_slide
from cytoseg.slides.tiff_check import MAX_PAGES, open_pages


@pytest.fixture(params=["<", "big"])
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A tiled TIFF of one page, classic or BigTIFF."""
    path = tmp_path / "a.tif"
    pixels = np.zeros((20, 20, 3), np.uint8)
    tifffile.imwrite(
        path, pixels, tile=(16, 16), photometric="rgb", metadata=None, **{"bigtiff": request.param == "big"}
    )
    return path


def chained(path: Path, count: int, *, back_to: int | None = None) -> Path:
    """Put more pages without tags behind the first; the last one may lead back to the page of that number."""
    with tifffile.TiffFile(path) as tif:
        form, number = ("<Q", 8) if tif.is_bigtiff else ("<I", 4)
        entries, entry = ("<Q", 20) if tif.is_bigtiff else ("<H", 12)
        first = tif.pages[0].offset
        link = first + struct.calcsize(entries) + entry * len(tif.pages[0].tags)
    content = path.read_bytes()
    begin, step = len(content), struct.calcsize(entries) + number
    places = [first, *(begin + i * step for i in range(count))]
    after = [*places[2:], 0 if back_to is None else places[back_to]] if count else []
    pages = b"".join(struct.pack(entries, 0) + struct.pack(form, offset) for offset in after)
    start = places[1] if count else places[back_to or 0]
    path.write_bytes(content[:link] + struct.pack(form, start) + content[link + number :] + pages)
    return path


@pytest.mark.parametrize(("count", "back_to"), [(0, 0), (1, 0), (3, 1), (3, 3), (40, 20)])
def test_a_circle_of_pages_is_refused(plain: Path, count: int, back_to: int) -> None:
    begin = time.perf_counter()
    path = chained(plain, count, back_to=back_to)
    for read in (open_slide, Raster, lambda path: read_picture(path, name=path.name)):
        with pytest.raises(SlideError, match=rf"a.tif: .*pages form a loop \(page {count + 2} points back"):
            read(path)
    assert time.perf_counter() - begin < 2


def test_so_many_pages_are_looked_over_and_no_more(plain: Path) -> None:
    open_pages(chained(plain, MAX_PAGES - 1)).close()
    with pytest.raises(ValueError, match="it has more than 2,000 pages"):
        open_pages(chained(plain, 300_000))


@pytest.mark.parametrize("count", [2**20, 2**31 - 1, 2**32 - 1])
def test_a_tag_with_more_values_than_the_file_has_bytes_is_refused(plain: Path, count: int) -> None:
    with tifffile.TiffFile(plain) as tif:
        tag, is_big = tif.pages[0].tags[324], tif.is_bigtiff
    content = bytearray(plain.read_bytes())
    struct.pack_into("<Q" if is_big else "<I", content, tag.offset + 4, count)
    plain.write_bytes(content)
    with pytest.raises(SlideError, match=rf"tag 324 of page 1 claims {count:,} values, more than the file has room"):
        open_slide(plain)


def test_far_too_many_pages_below_a_page(plain: Path) -> None:
    with tifffile.TiffFile(plain) as tif:
        tag, is_big = tif.pages[0].tags[325], tif.is_bigtiff
    content = bytearray(plain.read_bytes()) + bytes(200_000)
    struct.pack_into("<HHQ" if is_big else "<HHI", content, tag.offset, 330, 13, 9000)
    plain.write_bytes(content)
    with pytest.raises(SlideError, match=r"page 1 claims 9,000 pages below it, more than 2,000"):
        open_slide(plain)


@pytest.mark.parametrize("length", [0, 3, 4, 7, 8, 12, 15, 16, 40, 100, 200])
def test_a_file_that_ends_anywhere_is_refused(plain: Path, length: int) -> None:
    plain.write_bytes(plain.read_bytes()[:length])
    with pytest.raises(SlideError, match=r"a.tif: "):
        open_slide(plain)


@pytest.mark.posix
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="it is a named pipe, not a file"):
        open_pages(tmp_path / "a.tif")
    with pytest.raises(SlideError, match=r"a.tif: cannot be read \(it is a named pipe, not a file\)"):
        Raster(tmp_path / "a.tif")
