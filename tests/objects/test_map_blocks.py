from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoseg.geometry import Region, Size
from cytoseg.maps.map_spool import MapBand, MapSpool
from cytoseg.objects import map_blocks
from cytoseg.objects.map_blocks import WindowReader
from cytoseg.slides.open import open_slide

SIZE = Size(20, 30)
IDS = (np.arange(600) % 251).reshape(30, 20).astype(np.uint8)


@pytest.fixture
def spool(tmp_path: Path) -> MapSpool:
    maps = MapSpool(tmp_path, size=SIZE)
    maps.write(MapBand(IDS, IDS.astype(np.float32) / 4, 255 - IDS), x=0, y=0)
    return maps


def reader(spool: MapSpool, folder: Path, *, enlarge: int = 1) -> WindowReader:
    """Read maps beside a slide whose grey value is the class id."""
    large = IDS.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    Image.fromarray(np.stack([large] * 3, axis=2)).save(folder / "slide.png")
    return WindowReader(spool, open_slide(folder / "slide.png"), size=SIZE, downsample=float(enlarge))


PLACES = (
    Region(0, 0, 3, 3),
    Region(6, 1, 4, 2),
    Region(9, 7, 3, 3),
    Region(17, 27, 3, 3),
    Region(1, 1, 18, 25),
    Region(0, 0, 3, 12),  # taller than a small block
    Region(0, 0, 12, 3),  # wider than one
    Region(0, 0, 20, 30),
)


@pytest.mark.parametrize("enlarge", [1, 2])
@pytest.mark.parametrize("small_blocks", [False, True])
def test_a_window_shows_the_same_place_of_maps_and_slide(
    spool: MapSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: bool, enlarge: int
) -> None:
    if small_blocks:
        _make_blocks_small(monkeypatch)
    found = reader(spool, tmp_path, enlarge=enlarge)
    for place in PLACES:
        window = found.read(place)
        wanted = IDS[place.y : place.y + place.height, place.x : place.x + place.width]
        np.testing.assert_array_equal(window.ids, wanted)
        np.testing.assert_array_equal(window.uncertainty, wanted / np.float32(4))
        np.testing.assert_array_equal(window.confidence, 255 - wanted)
        np.testing.assert_array_equal(window.picture, np.stack([wanted] * 3, axis=2))


def _make_blocks_small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, pixels in (("LINE_PX", 8), ("_BLOCK_PX", 8), ("_MARGIN_PX", 2)):
        monkeypatch.setattr(map_blocks, name, pixels)


@pytest.mark.parametrize(
    ("place", "block"),
    [
        (Region(0, 0, 10, 10), Region(0, 0, 10, 10)),  # up to the margin, and all of it
        (Region(1, 1, 9, 9), Region(0, 0, 10, 10)),  # to its edges
        (Region(0, 0, 10, 11), Region(0, 0, 10, 11)),  # beyond it: read by itself
        (Region(9, 9, 1, 1), Region(8, 8, 10, 10)),
        (Region(17, 26, 2, 2), Region(16, 24, 4, 6)),  # a block ends with the maps
    ],
)
def test_a_block_is_read_with_its_margin(
    spool: MapSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Region, block: Region
) -> None:
    _make_blocks_small(monkeypatch)
    read: list[Region] = []
    monkeypatch.setattr(MapSpool, "window", lambda _self, _kept, **box: read.append(Region(**box)) or IDS)
    reader(spool, tmp_path).read(place)
    assert read == [block] * 3


def test_a_map_pixel_smaller_than_a_slide_pixel_shows_that_one_pixel(tmp_path: Path) -> None:
    maps = MapSpool(tmp_path, size=Size(1, 1))
    maps.write(MapBand(IDS[:1, :1], IDS[:1, :1].astype(np.float32), IDS[:1, :1]), x=0, y=0)
    Image.fromarray(np.array([[10, 250], [130, 70]], np.uint8)).save(tmp_path / "slide.png")
    with open_slide(tmp_path / "slide.png") as slide:
        window = WindowReader(maps, slide, size=Size(1, 1), downsample=0.25).read(Region(0, 0, 1, 1))
    assert window.picture.tolist() == [[[10, 10, 10]]]


def test_neighbours_share_what_was_read(spool: MapSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = reader(spool, tmp_path)
    found.read(Region(0, 0, 3, 3))
    monkeypatch.setattr(MapSpool, "window", None)
    assert found.read(Region(5, 5, 2, 2)).ids.tolist() == IDS[5:7, 5:7].tolist()


def test_a_part_of_a_window_is_cut_from_all_maps(spool: MapSpool, tmp_path: Path) -> None:
    part = reader(spool, tmp_path).read(Region(2, 3, 8, 8)).part(slice(1, 3), slice(2, 7))
    np.testing.assert_array_equal(part.ids, IDS[4:6, 4:9])
    np.testing.assert_array_equal(part.picture[..., 0], IDS[4:6, 4:9])
    np.testing.assert_array_equal(part.confidence, 255 - IDS[4:6, 4:9])
