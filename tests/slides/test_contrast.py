import numpy as np
import pytest

from cytoseg.slides.contrast import contrast, density, near_empty


def _empty(picture: object) -> bool:
    found = density(np.asarray(picture, np.uint8))
    return near_empty(found.mean(axis=0).tolist(), found.std(axis=0).tolist())


def test_density_is_against_white() -> None:
    assert density(np.array([[[255, 24, 0]]], np.uint8)).tolist() == [
        pytest.approx([0, np.log10(256 / 25), np.log10(256)])
    ]


def test_what_is_varied_in_one_channel_counts() -> None:
    picture = np.full((2, 2, 3), 255, np.uint8)
    assert contrast(picture) == 0
    picture[0, :, 1] = 24
    assert contrast(picture) == pytest.approx(np.log10(256 / 25) / 2)


def test_glass_is_near_empty_and_cells_are_not() -> None:
    noise = np.random.default_rng(0).integers(-6, 7, (64, 64, 3))
    for glass in (245, 200, 160):  # cameras are set dark, too
        assert _empty(glass + noise)
    one_cell = 240 + noise
    one_cell[20:33, 20:33] = (120, 60, 150)  # a 25th of the image
    assert not _empty(one_cell)
    assert not _empty(np.full((8, 8, 3), 90))  # a thick, even clump
