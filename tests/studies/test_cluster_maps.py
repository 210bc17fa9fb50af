from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from cytoseg.errors import CheckpointError
from cytoseg.features.extract import NativeFeatures
from cytoseg.studies.cluster_maps import cluster_maps, draw_maps, stride_of

Picture = NDArray[np.uint8]
Extract = Callable[[Picture], NativeFeatures]


def _stripes(greys: tuple[int, ...], *, side: int = 20) -> Picture:
    """Vertical stripes of some greys, equally wide."""
    row = np.repeat(greys, side // len(greys))
    return np.broadcast_to(row[None, :, None], (side, side, 3)).astype(np.uint8)


def _greys(picture: Picture) -> NativeFeatures:
    """One channel, the grey; another that is the same everywhere."""
    red = torch.from_numpy(picture[:, :, 0].astype(np.float32))
    return NativeFeatures([torch.stack([red, torch.ones_like(red)])[None]], picture.shape[:2], picture.shape[:2])


def test_clusters_are_numbered_from_light_to_dark_in_all_pictures_alike() -> None:
    pictures = [_stripes((40, 250, 90, 200, 150)), _stripes((150, 150, 250, 40, 200))]
    first, second = cluster_maps(_greys, pictures, seed=0)
    assert first.dtype == np.uint8
    assert first.tolist() == [np.repeat([4, 0, 3, 1, 2], 4).tolist()] * 20
    assert second[0].tolist() == np.repeat([2, 2, 0, 4, 1], 4).tolist()


def test_edges_take_no_cluster_away_from_what_is_seen() -> None:
    def with_edges(picture: Picture) -> NativeFeatures:
        plain = _greys(picture)
        edge = torch.zeros(1, 1, 20, 20)
        edge[:, :, :2], edge[:, :, -2:] = 500.0, -500.0
        return replace(plain, maps=[torch.cat([plain.maps[0], edge], dim=1)])

    (found,) = cluster_maps(with_edges, [_stripes((40, 250, 90, 200, 150))], seed=0)
    assert found[2:18].tolist() == [np.repeat([4, 0, 3, 1, 2], 4).tolist()] * 16


def test_another_seed_and_another_scale_find_the_same_clusters() -> None:
    pictures = [_stripes((40, 250, 90, 200, 150))]
    (expected,) = cluster_maps(_greys, pictures, seed=0)
    (other,) = cluster_maps(lambda p: replace(_greys(p), maps=[1000 * m for m in _greys(p).maps]), pictures, seed=5)
    assert adjusted_rand_score(expected.ravel(), other.ravel()) == 1.0


def test_noise_agrees_with_nothing(noise: Callable[[int], Extract]) -> None:
    pictures = [_stripes((40, 250, 90, 200, 150))]
    maps = [cluster_maps(extract, pictures, seed=0)[0] for extract in (_greys, noise(0), noise(1))]
    assert abs(adjusted_rand_score(maps[0].ravel(), maps[1].ravel())) < 0.1
    assert abs(adjusted_rand_score(maps[1].ravel(), maps[2].ravel())) < 0.1


def test_a_picture_of_one_colour_is_one_cluster() -> None:
    (found,) = cluster_maps(_greys, [_stripes((250,))], seed=0)
    assert len(np.unique(found)) == 1


def test_large_pictures_are_read_at_every_third_pixel() -> None:
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 150:] = 200
    assert stride_of(wide) == 3
    (found,) = cluster_maps(_greys, [wide], seed=0)
    assert found.shape == (34, 100)
    assert len(np.unique(found[:, :50])) == len(np.unique(found[:, 50:])) == 1
    assert found[0, 0] > found[0, 99]


def test_pictures_are_read_twice_and_each_reading_is_reported() -> None:
    told = list[int]()
    cluster_maps(_greys, [_stripes((0, 250))] * 3, seed=0, on_crop=lambda: told.append(1))
    assert len(told) == 6


def test_features_that_are_not_finite_are_refused() -> None:
    def damaged(picture: Picture) -> NativeFeatures:
        return replace(_greys(picture), maps=[torch.full((1, 1, 20, 20), torch.inf)])

    with pytest.raises(CheckpointError, match="image 1: the diffusion model produces NaN or infinite features"):
        cluster_maps(damaged, [_stripes((0, 250))], seed=0)


def test_a_row_shows_the_picture_and_its_maps() -> None:
    pictures = [_stripes((0, 250)), _stripes((250, 0))]
    maps = {name: [np.full((20, 20), k, np.uint8)] * 2 for k, name in enumerate(("trained", "filters"))}
    figure = draw_maps(pictures, maps)
    assert isinstance(figure, Figure)
    panels = figure.axes
    assert [panel.get_title() for panel in panels] == ["image", "trained", "filters", "", "", ""]
    np.testing.assert_array_equal(panels[3].images[0].get_array(), pictures[1])
    np.testing.assert_array_equal(panels[5].images[0].get_array(), maps["filters"][1])
    # One colour means one cluster, whichever clusters a map shows.
    assert {panel.images[0].get_clim() for panel in (panels[1], panels[2])} == {(0, 4)}
