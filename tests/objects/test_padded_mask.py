import numpy as np

from cytoseg.objects.padded_mask import padded


def test_a_margin_of_one_pixel_is_outside() -> None:
    mask = np.array([[True, False], [True, True]])
    np.testing.assert_array_equal(padded(mask), np.pad(mask, 1))
