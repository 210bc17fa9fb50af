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
    Region(0, 0, 20, 30),
)


@pytest.mark.parametrize("enlarge", [1, 2])
@pytest.mark.parametrize("small_blocks", [False, True])
def test_a_window_shows_the_same_place_of_maps_and_slide(
    spool: MapSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: bool, enlarge: int
) -> None:
    if small_blocks:
        monkeypatch.setattr(map_blocks, "LINE_PX", 8)
        monkeypatch.setattr(map_blocks, "_BLOCK_PX", 8)
        monkeypatch.setattr(map_blocks, "_MARGIN_PX", 2)
    found = reader(spool, tmp_path, enlarge=enlarge)
    for place in PLACES:
        window = found.read(place)
        wanted = IDS[place.y : place.y + place.height, place.x : place.x + place.width]
        np.testing.assert_array_equal(window.ids, wanted)
        np.testing.assert_array_equal(window.uncertainty, wanted / np.float32(4))
        np.testing.assert_array_equal(window.confidence, 255 - wanted)
        np.testing.assert_array_equal(window.picture, np.stack([wanted] * 3, axis=2))


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
