from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.drawing.overlay import RAMP
from cytoseg.errors import SlideError
from cytoseg.geometry import Region, Size
from cytoseg.viewer.deep_zoom import TilePyramid, class_palette, jpeg, painted, ramp_palette

CLASSES = ClassList(("glass", "cell"), ((240, 240, 240), (10, 20, 30)), "glass")


@pytest.mark.parametrize(("width", "finest"), [(1, 0), (256, 0), (257, 1), (512, 1), (513, 2), (30_000, 7)])
def test_the_first_step_is_one_tile_and_the_last_is_level_0(width: int, finest: int) -> None:
    pyramid = TilePyramid(Size(width, 100))
    assert pyramid.finest == finest
    assert pyramid.grid(0) == Size(1, 1)
    assert pyramid.grid(finest).width == -(-width // 256)
    assert pyramid.grid(finest + 1) == Size(0, 0)


def test_tiles_of_every_step_cover_the_slide_once() -> None:
    pyramid = TilePyramid(Size(1000, 700))
    for step in range(pyramid.finest + 1):
        seen = np.zeros((700, 1000), int)
        grid = pyramid.grid(step)
        for row in range(grid.height):
            for column in range(grid.width):
                region, size = pyramid.tile(step, column, row)
                seen[region.y : region.y + region.height, region.x : region.x + region.width] += 1
                downsample = 2 ** (pyramid.finest - step)
                assert size.width == np.ceil(region.width / downsample)
                assert size.height == np.ceil(region.height / downsample)
        assert (seen == 1).all()


def test_a_tile_at_the_edge_is_smaller() -> None:
    assert TilePyramid(Size(300, 300)).tile(1, 1, 1) == (Region(256, 256, 44, 44), Size(44, 44))
    assert TilePyramid(Size(301, 300)).tile(0, 0, 0) == (Region(0, 0, 301, 300), Size(151, 150))


@pytest.mark.parametrize("place", [(-1, 0, 0), (3, 0, 0), (2, 4, 0), (2, 0, 3), (2, -1, 0), (2, 0, -1)])
def test_a_tile_that_is_not_there_is_refused(place: tuple[int, int, int]) -> None:
    with pytest.raises(SlideError, match="there is no tile"):
        TilePyramid(Size(1000, 700)).tile(*place)


def test_only_shown_classes_are_painted() -> None:
    values = np.array([[0, 1], [255, 7]], np.uint8)
    with Image.open(BytesIO(painted(values, class_palette(CLASSES, frozenset({1, 7}))))) as picture:
        rgba = np.asarray(picture.convert("RGBA"))
    assert rgba[0, 1].tolist() == [10, 20, 30, 255]
    assert rgba[..., 3].tolist() == [[0, 255], [0, 0]]


def test_the_ramp_goes_from_its_first_colour_to_its_last() -> None:
    with Image.open(BytesIO(painted(np.array([[0, 255]], np.uint8), ramp_palette()))) as picture:
        assert np.asarray(picture.convert("RGBA")).tolist() == [[[*RAMP[0], 255], [*RAMP[-1], 255]]]


def test_a_jpeg_is_nearly_the_picture() -> None:
    grey = np.full((16, 24, 3), 100, np.uint8)
    with Image.open(BytesIO(jpeg(grey))) as picture:
        assert picture.format == "JPEG"
        assert np.abs(np.asarray(picture).astype(int) - 100).max() <= 2
