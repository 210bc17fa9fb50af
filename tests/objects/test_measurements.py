import math

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.measure import perimeter_crofton, regionprops

from cytoseg.objects.measurements import Cutout, content_of, shape_of


def ellipse(a: float, b: float, *, turn: float = 0.0, side: int = 120) -> NDArray[np.bool_]:
    row, column = np.indices((side, side)) + 0.5 - side / 2
    along, across = (
        column * math.cos(turn) + row * math.sin(turn),
        row * math.cos(turn) - column * math.sin(turn),
    )
    return (along / a) ** 2 + (across / b) ** 2 <= 1


@pytest.mark.parametrize("radius", [4.0, 9.0, 25.0, 50.0])
def test_a_disc_has_the_numbers_of_a_circle(radius: float) -> None:
    shape = shape_of(ellipse(radius, radius))
    assert shape.pixels == pytest.approx(math.pi * radius**2, rel=0.04)
    assert shape.perimeter == pytest.approx(2 * math.pi * radius, rel=0.03)
    assert shape.circularity > 0.95
    assert shape.eccentricity < 0.1
    assert (shape.x, shape.y) == pytest.approx((60, 60))


@pytest.mark.parametrize("turn", [0.0, 0.5, 1.2])
def test_an_ellipse_has_the_eccentricity_of_its_axes_however_it_lies(turn: float) -> None:
    shape = shape_of(ellipse(40, 20, turn=turn))
    assert shape.eccentricity == pytest.approx(math.sqrt(1 - 0.25), abs=0.002)
    # Ramanujan's formula for the perimeter.
    h = ((40 - 20) / (40 + 20)) ** 2
    around = math.pi * 60 * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))
    assert shape.perimeter == pytest.approx(around, rel=0.02)
    assert shape.circularity == pytest.approx(4 * math.pi * math.pi * 800 / around**2, rel=0.04)


@pytest.mark.parametrize("seed", range(10))
def test_shapes_agree_with_scikit_image(seed: int) -> None:
    mask = np.random.default_rng(seed).random((9, 13)) < 0.6
    shape = shape_of(mask)
    (wanted,) = regionprops(mask.astype(np.uint8))
    assert shape.pixels == wanted.area
    assert (shape.y - 0.5, shape.x - 0.5) == pytest.approx(wanted.centroid)
    assert shape.eccentricity == pytest.approx(wanted.eccentricity)
    assert shape.perimeter == pytest.approx(perimeter_crofton(np.pad(mask, 1), directions=4))


def test_one_pixel_and_a_line_are_measured_too() -> None:
    pixel, line = shape_of(np.ones((1, 1), np.bool_)), shape_of(np.ones((1, 9), np.bool_))
    assert (pixel.x, pixel.y, pixel.pixels, pixel.eccentricity, pixel.circularity) == (0.5, 0.5, 1, 0, 1)
    assert (line.x, line.y, line.eccentricity) == (4.5, 0.5, 1)
    assert shape_of(np.ones((2, 1), np.bool_)).eccentricity == 1


def test_content_is_that_of_the_pixels_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cytoseg.objects.measurements._PIECE_PX", 2)
    mask = np.array([[True, True, False], [True, False, False]])
    picture = np.full((2, 3, 3), 7, np.uint8)
    picture[mask] = [[255, 0, 10], [255, 30, 10], [255, 60, 10]]
    confidence = np.array([[255, 51, 0], [102, 0, 0]], np.uint8)
    uncertainty = np.array([[0.1, 0.2, 9], [0.6, 9, 9]], np.float32)
    found = content_of(Cutout(mask, picture, confidence, uncertainty))
    density = [sum(math.log10(256 / (v + 1)) for v in pixel) / 3 for pixel in picture[mask].tolist()]
    assert found.means == pytest.approx([255, 30, 10, np.mean(density)])
    assert found.deviations == pytest.approx([0, math.sqrt(600), 0, np.std(density)])
    assert found.confidence == pytest.approx((1 + 0.2 + 0.4) / 3)
    assert found.uncertainty == pytest.approx(0.3)
