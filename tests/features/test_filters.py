import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.feature import multiscale_basic_features

from cytoseg.features.extract import to_input
from cytoseg.features.filters import filter_maps, filter_responses


def test_72_filters_of_which_some_are_the_blurred_picture() -> None:
    responses = filter_responses(np.full((5, 7, 3), 51, np.uint8))
    assert responses.shape == (5, 7, 72)
    assert responses.dtype == np.float32
    # Of a flat image six intensities in each of three channels remain; edges and texture are nothing.
    means = responses.mean(axis=(0, 1))
    assert np.isclose(means, 0.2, atol=1e-6).sum() == 18
    assert np.isclose(means, 0, atol=1e-6).sum() == 54


@pytest.mark.parametrize("value", [0, 1, 128, 254, 255])
def test_the_grey_levels_survive_the_way_through_the_network_range(value: int) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 6, 9, 3), np.uint8)
    pictures[1] = value
    maps = filter_maps(to_input(pictures))
    assert maps.shape == (2, 72, 6, 9)
    assert maps.dtype == torch.float32
    for picture, found in zip(pictures, maps, strict=True):
        np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), filter_responses(picture))


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (6, 1)])
def test_a_picture_of_one_row_is_filtered_as_two_equal_ones(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    twice = np.concatenate([picture] * 2, axis=0 if size[0] == 1 else 1)
    twice = np.concatenate([twice] * 2, axis=1) if size == (1, 1) else twice
    found = filter_responses(picture)
    assert found.shape == (*size, 72)
    np.testing.assert_array_equal(found, filter_responses(twice)[: size[0], : size[1]])


def _by_skimage(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Filter (H, W, 3) uint8 of at least two rows and columns with the library that the filters are taken from."""
    scaled = picture.astype(np.float32) / np.float32(255)
    responses: NDArray[np.float32] = multiscale_basic_features(scaled, sigma_min=0.5, sigma_max=16, channel_axis=-1)
    return responses


@pytest.mark.parametrize("size", [(2, 2), (2, 3), (3, 2), (2, 70), (4, 4), (5, 131), (64, 64), (65, 63), (129, 7)])
def test_the_values_are_those_of_skimage_at_any_size(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    np.testing.assert_allclose(filter_responses(picture), _by_skimage(picture), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (6, 1), (1, 200)])
def test_the_values_of_one_row_are_those_of_skimage_for_two_like_it(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    twice = np.pad(picture, [(0, int(side == 1)) for side in size] + [(0, 0)], mode="edge")
    expected = _by_skimage(twice)[: size[0], : size[1]]
    np.testing.assert_allclose(filter_responses(picture), expected, rtol=0, atol=1e-6)


def test_each_scale_of_a_smooth_picture_is_as_near_to_skimage() -> None:
    """Of noise the coarse scales leave little; a slope with a bright disc gives each of them edges and texture."""
    y, x = np.mgrid[:90, :100]
    grey = x + 100 * (np.hypot(x - 50, y - 40) < 20)
    picture = np.stack([grey, 255 - grey, y], axis=-1).astype(np.uint8)
    found, expected = filter_responses(picture), _by_skimage(picture)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    for column in range(48):  # the third channel is a slope without texture
        assert np.corrcoef(found[..., column].ravel(), expected[..., column].ravel())[0, 1] > 0.9999


def test_a_tile_has_the_values_of_the_whole_picture_where_its_border_is_out_of_reach() -> None:
    """The coarsest blur reaches 64 px, and the gradient of its gradient two more."""
    picture = np.random.default_rng(0).integers(0, 256, (150, 190, 3), np.uint8)
    whole, tile = filter_responses(picture), filter_responses(picture[7:, 13:180])
    np.testing.assert_allclose(tile[66:, 66:-66], whole[73:, 79:114], rtol=0, atol=1e-6)


def test_pictures_need_not_be_contiguous() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    turned = np.ascontiguousarray(picture.transpose(1, 0, 2))
    np.testing.assert_array_equal(filter_responses(turned.transpose(1, 0, 2)), filter_responses(picture))
    torch.testing.assert_close(
        filter_maps(to_input(turned[None]).transpose(2, 3)), filter_maps(to_input(picture[None])), atol=0, rtol=0
    )
