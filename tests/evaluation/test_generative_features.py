"""The four ladders: blur, noise, JPEG and shuffled tiles must come out in order."""

import functools
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from cytoseg.errors import CytosegError
from cytoseg.evaluation.generative_features import feature_network, filter_features, standardised
from cytoseg.evaluation.generative_scores import kernel_distance
from cytoseg.features.pretrained import PretrainedStages, imagenet_encoder

Array = np.ndarray[Any, Any]


@functools.cache
def _fields(first: int, count: int = 24, size_px: int = 32) -> Array:
    """Discs of two stains on bright glass, (N, size, size, 3) uint8; field i from i alone."""
    rows, columns = np.mgrid[:size_px, :size_px]
    fields = []
    for number in range(first, first + count):
        random = np.random.default_rng(number)
        field = np.full((size_px, size_px, 3), 235.0)
        for _ in range(3):
            y, x = random.uniform(0, size_px, 2)
            for radius, colour in ((random.uniform(6, 10), (170, 190, 220)), (random.uniform(2, 4), (90, 60, 130))):
                field[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = colour
        field = gaussian_filter(field, (0.4, 0.4, 0)) + random.normal(0, 2, field.shape)
        fields.append(field.clip(0, 255).astype(np.uint8))
    return np.stack(fields)


def _tensor(fields: Array) -> Tensor:
    return torch.from_numpy(fields).permute(0, 3, 1, 2).float() / 127.5 - 1


def _distance(fields: Array) -> float:
    real = filter_features(_tensor(_fields(0)))
    made = standardised(filter_features(_tensor(fields)), real)
    return kernel_distance(made[0], standardised(real, real)[0], seed=0)


def _blurred(fields: Array, sigma_px: float) -> Array:
    blurred: Array = gaussian_filter(fields.astype(float), (0, sigma_px, sigma_px, 0))
    return blurred.round().astype(np.uint8)


def _noisy(fields: Array, deviation: float) -> Array:
    noise = np.random.default_rng(0).normal(0, 255 * deviation, fields.shape)
    return (fields + noise).clip(0, 255).astype(np.uint8)


def _squeezed(fields: Array, quality: float) -> Array:
    found = []
    for field in fields:
        file = io.BytesIO()
        Image.fromarray(field).save(file, "jpeg", quality=int(quality))
        found.append(np.array(Image.open(file)))
    return np.stack(found)


def _shuffled(fields: Array, size_px: float) -> Array:
    side = fields.shape[1] // int(size_px)
    tiles = fields.reshape(-1, side, int(size_px), side, int(size_px), 3).transpose(0, 1, 3, 2, 4, 5)
    flat = tiles.reshape(len(fields), side * side, int(size_px), int(size_px), 3)
    mixed = np.stack([tile[np.random.default_rng(i).permutation(side * side)] for i, tile in enumerate(flat)])
    back = mixed.reshape(tiles.shape).transpose(0, 1, 3, 2, 4, 5)
    return back.reshape(fields.shape)


@pytest.mark.parametrize(
    ("change", "levels"),
    [(_blurred, (0.5, 1.0, 2.0)), (_noisy, (0.02, 0.05, 0.1)), (_squeezed, (60, 20, 5)), (_shuffled, (16, 8, 4))],
)
def test_the_more_is_changed_the_greater_the_distance(change: Any, levels: tuple[float, ...]) -> None:
    others = _fields(1000)
    ladder = [_distance(others), *(_distance(change(others, level)) for level in levels)]
    assert ladder == sorted(ladder)
    assert ladder[-1] > 3 * abs(ladder[0])


def test_features_by_hand_of_an_even_picture() -> None:
    whole, spatial = filter_features(torch.zeros(2, 3, 8, 8))
    assert whole.shape == (2, 144)
    assert spatial.shape == (2, 1152)
    np.testing.assert_allclose(whole[:, 0], 128 / 255, atol=1e-6)
    np.testing.assert_allclose(whole[:, 72:], 0, atol=1e-6)


def test_features_keep_where_something_is_only_in_the_grid() -> None:
    picture = torch.ones(1, 3, 32, 32)
    picture[..., 8:16, 8:16] = -1
    (whole, spatial), (turned, turned_spatial) = filter_features(picture), filter_features(picture.flip(3))
    np.testing.assert_allclose(whole, turned, atol=1e-5)
    assert np.abs(spatial - turned_spatial).max() > 0.1


def test_standardised_features_of_real_pictures_have_spread_one() -> None:
    real = filter_features(_tensor(_fields(0)))
    whole, _ = standardised(real, real)
    np.testing.assert_allclose(whole.mean(0), 0, atol=1e-8)
    assert whole.std(0).max() == pytest.approx(1)


def test_each_network_has_a_hash_of_its_own() -> None:
    # Scores with these hashes have been published with the package: other features need another hash.
    assert [feature_network(name).hash for name in ("filters", "lite0")] == ["188af8904802", "4e7f5bd6cd48"]
    assert feature_network("filters", channels=1).hash != "188af8904802"


def test_lite0_means_by_the_stages_themselves() -> None:
    whole, spatial = feature_network("lite0").features(_tensor(_fields(0, 2)))
    stages = PretrainedStages(imagenet_encoder(), device=torch.device("cpu"), precision="no")
    with torch.inference_mode():
        found = stages(_tensor(_fields(0, 2)))
    np.testing.assert_allclose(whole, found[-1].mean((2, 3)).numpy(), rtol=1e-3, atol=1e-5)
    assert spatial.shape == (2, found[2].shape[1] * 16)


def test_lite0_finds_shuffled_tiles_far_away() -> None:
    network = feature_network("lite0")
    real = network.features(_tensor(_fields(0)))
    base = standardised(real, real)[0]
    same, mixed = (
        kernel_distance(standardised(network.features(_tensor(fields)), real)[0], base, seed=0)
        for fields in (_fields(1000), _shuffled(_fields(1000), 4))
    )
    assert mixed > 3 * abs(same)


def test_lite0_takes_no_odd_sizes() -> None:
    with pytest.raises(CytosegError, match=r"images of 20x20 px, but it takes multiples of 8\. Take filters"):
        feature_network("lite0").features(torch.zeros(1, 3, 20, 20))
