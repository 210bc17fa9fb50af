import numpy as np
import pytest

from cytoseg.slides.optical_density import DARKEST, from_optical_density, optical_density


def test_white_has_none_black_most_and_a_tenth_of_the_light_one() -> None:
    found = optical_density(np.array([[255, 0], [15, 24]], np.uint8))
    np.testing.assert_allclose(found, [[0, np.log10(256)], [np.log10(16), np.log10(10.24)]], rtol=0, atol=1e-12)
    assert found.dtype == np.float64
    assert found[0, 1] == pytest.approx(DARKEST)


def test_against_another_ground_by_channel() -> None:
    found = optical_density(np.array([99, 199, 9], np.float32), np.array([99, 99, 99], np.float32))
    np.testing.assert_allclose(found, [0, -np.log10(2), 1], rtol=0, atol=1e-6)
    assert found.dtype == np.float32


def test_pixels_come_back_from_their_density() -> None:
    values = np.array([0, 1, 100, 255], np.uint8)
    np.testing.assert_allclose(from_optical_density(optical_density(values)), values, atol=1e-9)
    assert from_optical_density(np.array(-0.1)) > 255
