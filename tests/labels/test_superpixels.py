import numpy as np
import pytest

from cytoseg.labels.superpixels import SIDE_PX, superpixels


def test_superpixels_end_where_the_colour_does() -> None:
    picture = np.full((40, 56, 3), (230, 225, 228), np.uint8)
    disc = np.hypot(*(np.mgrid[:40, :56] - np.array([20, 28])[:, None, None])) < 10
    picture[disc] = (90, 60, 140)
    found = superpixels(picture)
    assert found.ids.shape == (40, 56)
    assert found.ids.dtype == np.uint16
    np.testing.assert_array_equal(np.unique(found.ids), np.arange(len(found.colours)))
    assert abs(len(found.colours) - 40 * 56 / SIDE_PX**2) < 15
    shares = np.bincount(found.ids.ravel(), disc.ravel()) / np.bincount(found.ids.ravel())
    assert ((shares < 0.05) | (shares > 0.95)).all()  # each lies in the disc or outside it
    np.testing.assert_allclose(found.colours[shares > 0.95], [[33.2, 31.4, -39.0]] * int((shares > 0.95).sum()), atol=3)
    np.testing.assert_allclose(found.colours[shares < 0.05], [[90.2, 1.9, -0.4]] * int((shares < 0.05).sum()), atol=3)


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (3, 50)])
def test_a_picture_of_one_colour_and_any_size_has_superpixels(shape: tuple[int, int]) -> None:
    found = superpixels(np.full((*shape, 3), 100, np.uint8))
    assert found.ids.shape == shape
    np.testing.assert_allclose(found.colours, [[42.4, 0, 0]] * len(found.colours), atol=0.1)
