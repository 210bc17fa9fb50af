import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cytoseg.slides.corrupt import CORRUPTIONS, Scale, corrupt, strength
from cytoseg.slides.optical_density import optical_density

SCALE = Scale(mpp=0.5, object_um=8.0)
GREY = np.full((32, 32, 3), 100, np.uint8)


def _noisy() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(40, 200, (24, 40, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_depends_only_on_picture_severity_and_seed(name: str) -> None:
    picture = _noisy()
    before = picture.copy()
    found = corrupt(picture, name, 3, scale=SCALE, seed=5)
    np.testing.assert_array_equal(found, corrupt(picture, name, 3, scale=SCALE, seed=5))
    np.testing.assert_array_equal(picture, before)
    assert (found.shape, found.dtype) == (picture.shape, np.uint8)
    assert corrupt(picture, name, 0, scale=SCALE, seed=5) is picture


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_higher_severity_changes_more(name: str) -> None:
    picture = _noisy().astype(np.int64)
    change = [
        float(np.abs(corrupt(picture.astype(np.uint8), name, s, scale=SCALE, seed=1) - picture).mean())
        for s in (1, 2, 3, 4, 5)
    ]
    assert change == sorted(change)
    assert change[0] > 0


@pytest.mark.parametrize("name", ["defocus", "pixel-size", "contrast", "saturation"])
def test_an_even_grey_picture_stays_as_it_is(name: str) -> None:
    np.testing.assert_array_equal(corrupt(GREY, name, 5, scale=SCALE, seed=0), GREY)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 9, 3)])
def test_pictures_smaller_than_the_blur_keep_their_shape(name: str, shape: tuple[int, int, int]) -> None:
    picture = np.full(shape, 90, np.uint8)
    found = corrupt(picture, name, 5, scale=Scale(0.1, 20.0), seed=0)
    assert found.shape == shape
    if name in ("defocus", "pixel-size", "saturation"):  # which leave an even grey as it is
        np.testing.assert_array_equal(found, picture)


def test_the_disc_of_defocus_grows_with_the_objects_and_the_pixels_per_micrometre() -> None:
    point = np.zeros((61, 61, 3), np.uint8)
    point[30, 30] = 255

    def width(scale: Scale) -> int:
        return int((corrupt(point, "defocus", 5, scale=scale, seed=0)[30, :, 0] > 0).sum())

    assert width(Scale(mpp=1.0, object_um=10.0)) == 9  # radius 4.5 µm: four pixels on each side, and a half
    assert width(Scale(mpp=0.5, object_um=5.0)) == 9
    assert width(Scale(mpp=0.5, object_um=10.0)) == 19


def test_defocus_spreads_a_bright_square_without_losing_light() -> None:
    square = np.zeros((64, 64, 3), np.uint8)
    square[24:40, 24:40] = 200
    found = corrupt(square, "defocus", 3, scale=SCALE, seed=0).astype(int)
    assert found.sum() == pytest.approx(square.astype(int).sum(), rel=0.01)
    assert found[32, 32, 0] == 200
    assert 0 < found[32, 23, 0] < found[32, 24, 0] < 200


def test_noise_has_the_stated_spread() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    gaussian = corrupt(grey, "gaussian-noise", 2, scale=SCALE, seed=0)
    shot = corrupt(grey, "shot-noise", 2, scale=SCALE, seed=0)
    assert gaussian.std() == pytest.approx(255 * 0.04, rel=0.03)
    assert shot.std() == pytest.approx(255 * 0.06 * np.sqrt(128 / 255), rel=0.03)
    assert abs(gaussian.mean() - 128) < 0.5
    assert abs(shot.mean() - 128) < 0.5


def test_jpeg_is_what_pillow_writes_at_that_quality() -> None:
    file = io.BytesIO()
    Image.fromarray(_noisy()).save(file, "JPEG", quality=46)
    np.testing.assert_array_equal(corrupt(_noisy(), "jpeg", 3, scale=SCALE, seed=0), np.asarray(Image.open(file)))


def test_light_and_colour_move_by_the_stated_share_either_way() -> None:
    found = {int(corrupt(GREY, "brightness", 3, scale=SCALE, seed=s)[0, 0, 0]) for s in range(8)}
    assert found == {76, 124}
    red = np.broadcast_to(np.array([160, 100, 40], np.uint8), (4, 4, 3)).copy()
    colours = {tuple(corrupt(red, "saturation", 2, scale=SCALE, seed=s)[0, 0].tolist()) for s in range(8)}
    assert colours == {(142, 100, 58), (178, 100, 22)}


def test_contrast_pulls_towards_the_mean() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0] = 200
    found = corrupt(picture, "contrast", 5, scale=SCALE, seed=0)
    assert np.unique(found).tolist() == [60, 140]


def test_uneven_light_darkens_one_side_by_the_stated_share() -> None:
    found = corrupt(GREY, "uneven-light", 5, scale=SCALE, seed=0)
    assert (found.max(), found.min()) == (100, 50)
    corners = [found[y, x, 0] for y in (0, -1) for x in (0, -1)]
    assert 50 in corners
    assert 100 in corners


def test_a_stain_shift_scales_haematoxylin_and_eosin_against_each_other() -> None:
    haematoxylin = 256 * 10 ** -np.array([0.65, 0.70, 0.29]) - 1  # one unit of Ruifrok and Johnston's vector
    picture = np.broadcast_to(np.rint(haematoxylin).astype(np.uint8), (2, 2, 3)).copy()
    found = {
        round(float(optical_density(corrupt(picture, "stain", 4, scale=SCALE, seed=s))[0, 0].sum() / 1.64), 1)
        for s in range(8)
    }
    assert found == {0.8, 1.2}
    glass = np.full((2, 2, 3), 255, np.uint8)
    np.testing.assert_array_equal(corrupt(glass, "stain", 5, scale=SCALE, seed=0), glass)


def test_larger_pixels_average_what_a_coarser_scanner_sees() -> None:
    stripes = np.zeros((12, 12, 3), np.uint8)
    stripes[:, ::2] = 200
    found = corrupt(stripes, "pixel-size", 3, scale=SCALE, seed=0)  # half the resolution
    np.testing.assert_array_equal(found, np.full_like(stripes, 100))


def test_strengths_are_said_in_units() -> None:
    assert [strength(name, 3, SCALE) for name in CORRUPTIONS] == [
        "defocus of 2.16 µm",
        "Gaussian noise of 6 % of white",
        "shot noise of 9 % at white",
        "JPEG of quality 46",
        "brightness changed by 24 %",
        "contrast lowered by 36 %",
        "saturation changed by 45 %",
        "stain shift of 15 %",
        "pixels of 1.00 µm",
        "uneven light of 30 %",
    ]
