from pathlib import Path

import numpy as np
import pytest

from cytoseg.geometry import Region, Size
from cytoseg.slides.pyramid import write_pyramid
from cytoseg.viewer.picked_object import PICTURE_PX, object_at, object_picture

SLIDE = Size(128, 96)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """A grey slide of 128 x 96 px, and a map of half its size with object 7 at (20, 40) to (60, 80) of the slide."""
    slide, folder = tmp_path / "slide.ome.tif", tmp_path / "predicted"
    write_pyramid(slide, [np.full((96, 128, 3), 200, np.uint8)], size=SLIDE, mpp=0.5)
    ids = np.zeros((48, 64), np.uint32)
    ids[20:40, 10:30] = 7
    write_pyramid(folder / "instances.ome.tif", [ids], size=Size(64, 48), mpp=1.0, categorical=True)
    return slide, folder


@pytest.mark.parametrize(
    ("x", "y", "number"),
    [
        (20, 40, 7),
        (59, 79, 7),
        (19, 40, 0),
        (60, 79, 0),
        (30, 80, 0),
        (0, 0, 0),
        (127, 95, 0),
        (-1, 50, 0),
        (50, 400, 0),
    ],
)
def test_the_object_under_a_place_is_known(made: tuple[Path, Path], x: int, y: int, number: int) -> None:
    assert object_at(made[1], SLIDE, x, y) == number


def test_without_a_map_of_objects_there_is_none(made: tuple[Path, Path], tmp_path: Path) -> None:
    assert object_at(tmp_path / "nothing", SLIDE, 30, 50) == 0
    assert (object_picture(made[0], tmp_path / "nothing", 7, Region(0, 0, 48, 48)) == 200).mean() > 0.99


def test_the_picture_shows_the_edge_of_the_object_alone(made: tuple[Path, Path]) -> None:
    picture = object_picture(made[0], made[1], 7, Region(-20, 0, 120, 120)).astype(int)
    assert picture.shape == (PICTURE_PX, PICTURE_PX, 3)
    edge = np.argwhere((picture == (255, 214, 0)).all(axis=2))
    assert (edge.min(axis=0).tolist(), edge.max(axis=0).tolist()) == ([80, 80], [159, 159])  # two pixels each
    assert len(edge) == 4 * 79
    assert not (object_picture(made[0], made[1], 8, Region(0, 0, 96, 96)) == (255, 214, 0)).all(axis=2).any()
