import numpy as np
import pytest
import torch

from cytoseg.features.extract import to_input
from cytoseg.features.filters import FILTERS, filter_maps, filter_responses


def test_72_filters_of_which_some_are_the_blurred_picture() -> None:
    responses = filter_responses(np.full((5, 7, 3), 51, np.uint8))
    assert responses.shape == (5, 7, FILTERS)
    assert responses.dtype == np.float32
    # Of a flat picture six intensities in each of three channels remain; edges and texture are nothing.
    means = responses.mean(axis=(0, 1))
    assert np.isclose(means, 0.2, atol=1e-6).sum() == 18
    assert np.isclose(means, 0, atol=1e-6).sum() == 54


@pytest.mark.parametrize("value", [0, 1, 128, 254, 255])
def test_the_grey_levels_survive_the_way_through_the_network_range(value: int) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 6, 9, 3), np.uint8)
    pictures[1] = value
    maps = filter_maps(to_input(pictures))
    assert maps.shape == (2, FILTERS, 6, 9)
    assert maps.dtype == torch.float32
    for picture, found in zip(pictures, maps, strict=True):
        np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), filter_responses(picture))


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (6, 1)])
def test_a_picture_of_one_row_is_filtered_as_two_equal_ones(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    twice = np.concatenate([picture] * 2, axis=0 if size[0] == 1 else 1)
    twice = np.concatenate([twice] * 2, axis=1) if size == (1, 1) else twice
    found = filter_responses(picture)
    assert found.shape == (*size, FILTERS)
    np.testing.assert_array_equal(found, filter_responses(twice)[: size[0], : size[1]])
