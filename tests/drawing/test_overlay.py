"""Pictures painted over, at sizes that can be checked by hand."""

import numpy as np
import pytest

from cytoseg.classes import ClassList
from cytoseg.drawing.overlay import (
    HATCH,
    RAMP,
    class_veil,
    disagreement_veil,
    enlarge,
    enlarge_smoothly,
    outline,
    overlay,
    paint_classes,
    paint_disagreement,
    ramp_swatch,
    ramp_table,
    stretched,
)

GREY = np.full((2, 2, 3), 100, np.uint8)
IDS = np.array([[0, 1], [2, 255]], np.uint8)
COLOURS = ((200, 0, 0), (0, 200, 0), (0, 0, 200))


@pytest.fixture
def classes() -> ClassList:
    return ClassList(("glass", "cell", "nucleus"), ((240, 240, 240), (80, 180, 230), (200, 0, 40)), "glass")


def test_classes_are_blended_and_ignore_stays_unpainted() -> None:
    painted = paint_classes(GREY, IDS, colours=COLOURS, shown=[0, 1, 2], opacity=0.5)
    expected = [[[150, 50, 50], [50, 150, 50]], [[50, 50, 150], [100, 100, 100]]]
    np.testing.assert_array_equal(painted, expected)


def test_only_shown_classes_are_painted() -> None:
    painted = paint_classes(GREY, IDS, colours=COLOURS, shown=[1], opacity=1)
    np.testing.assert_array_equal(painted, [[[100] * 3, [0, 200, 0]], [[100] * 3, [100] * 3]])


def test_opacity_zero_leaves_the_picture() -> None:
    np.testing.assert_array_equal(paint_classes(GREY, IDS, colours=COLOURS, shown=[0, 1, 2], opacity=0), GREY)
    np.testing.assert_array_equal(paint_disagreement(GREY, IDS, opacity=0), GREY)


def test_disagreement_runs_along_the_ramp() -> None:
    painted = paint_disagreement(GREY, np.array([[0, 255], [0, 255]], np.uint8), opacity=1)
    np.testing.assert_array_equal(painted, [[RAMP[0], RAMP[-1]]] * 2)
    brightness = [sum(colour) for colour in RAMP]
    assert brightness == sorted(brightness)


def test_veils_are_clear_where_nothing_is_to_be_seen() -> None:
    ids = np.array([[0, 1], [2, 255]], np.uint8)
    veil = class_veil(ids, [(1, 2, 3), (4, 5, 6), (7, 8, 9)], clear=0)
    assert veil.tolist() == [[[0, 0, 0, 0], [4, 5, 6, 255]], [[7, 8, 9, 255], [0, 0, 0, 0]]]
    nats = np.array([[0.0, 0.1], [0.2, 0.7]], np.float32)
    doubt = disagreement_veil(nats, max_nats=0.4)
    assert doubt[..., 3].tolist() == [[0, 126], [254, 255]]
    assert doubt[1, 1].tolist() == [*RAMP[-1], 255]


def test_the_fill_class_stays_clear_and_others_are_veiled_and_outlined(classes: ClassList) -> None:
    picture, label_map = np.full((5, 5, 3), 100, np.uint8), np.zeros((5, 5), np.uint8)
    label_map[1:4, 1:4] = 2
    shown = overlay(picture, label_map, classes)
    assert shown[0, 0].tolist() == [100, 100, 100]
    assert shown[1, 1].tolist() == [200, 0, 40]
    assert shown[2, 2].tolist() == [130, 70, 82]  # 0.7 of 100 and 0.3 of the colour


def test_ignored_pixels_are_hatched(classes: ClassList) -> None:
    shown = overlay(np.full((4, 16, 3), 100, np.uint8), np.full((4, 16), 255, np.uint8), classes)
    assert shown[0].tolist() == [list(HATCH) if column % 8 < 2 else [100] * 3 for column in range(16)]


def test_an_area_is_outlined_in_white_inside_and_black_outside() -> None:
    picture, mask = np.full((3, 5, 3), 100, np.uint8), np.zeros((3, 5), np.bool_)
    mask[:, 2:] = True
    found = outline(picture, mask, width_px=1)
    assert found[1, :, 0].tolist() == [100, 0, 255, 100, 100]
    assert (picture == 100).all()


def test_the_table_runs_along_the_ramp_and_the_swatch_shows_its_colours() -> None:
    np.testing.assert_array_equal(ramp_table()[[0, 255]], [RAMP[0], RAMP[-1]])
    assert ramp_table().shape == (256, 3)
    np.testing.assert_array_equal(ramp_swatch(2)[0, ::2], RAMP)
    assert ramp_swatch(2).shape == (2, 10, 3)


def test_little_disagreement_is_stretched_to_the_whole_ramp() -> None:
    nats = np.array([[0.0, 0.1], [0.2, 0.2]])
    grey, brightest = stretched(nats)
    assert brightest == pytest.approx(0.2)
    assert grey.tolist() == [[0, 128], [255, 255]]
    assert grey.dtype == np.uint8


def test_what_hardly_differs_is_not_stretched() -> None:
    grey, brightest = stretched(np.array([[0.0, 0.01]]))
    assert brightest == 0.05
    assert grey.tolist() == [[0, 51]]
    assert stretched(np.array([[0.0, 0.01]]), faintest_nats=0.001)[0].tolist() == [[0, 255]]


def test_a_single_bright_pixel_does_not_darken_the_rest() -> None:
    nats = np.full(1000, 0.1)
    nats[7] = 0.69
    grey, brightest = stretched(nats[None])
    assert brightest == pytest.approx(0.1)
    assert grey.min() == 255


def test_enlarging() -> None:
    np.testing.assert_array_equal(enlarge(np.array([[1, 2]], np.uint8), 2), [[1, 1, 2, 2], [1, 1, 2, 2]])
    np.testing.assert_array_equal(enlarge_smoothly(GREY, 3), np.full((6, 6, 3), 100))
