from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoseg.active_learning.choose_regions import overlapping
from cytoseg.slides.contrast import contrast
from cytoseg.slides.crops import RandSlideCropd
from cytoseg.slides.settings import BackgroundSection, SlidesSection
from cytoseg.slides.tissue_sources import find_tissue
from cytoseg.workflows.random_places import Place, choose_places

Draws = Callable[..., RandSlideCropd]


@pytest.fixture
def draws(tmp_path: Path) -> Draws:
    """Random crops of 16 px of an image that is taken to be all tissue."""

    def draws(pixels: np.ndarray) -> RandSlideCropd:  # type: ignore[type-arg] # any image
        path = tmp_path / "smear.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        sources = find_tissue([path], size_px=16, settings=SlidesSection(background=BackgroundSection("none")))
        return RandSlideCropd(["image"], sources=sources, size_px=16)

    return draws


def _places(crop: RandSlideCropd, n: int, seed: int = 0) -> list[Place]:
    return list(choose_places(crop, n, seed=seed, on_place=lambda _: None))


def test_places_with_cells_are_preferred_and_glass_is_left_out(draws: Draws) -> None:
    pixels = np.full((128, 128, 3), 245)
    pixels[8:40, 8:40] = np.random.default_rng(0).integers(40, 240, (32, 32, 3))
    found = _places(draws(pixels), 3)
    assert found
    assert all(place.region.x < 40 and place.region.y < 40 for place in found)
    assert min(contrast(place.picture) for place in found) > 0.05
    assert _places(draws(np.full((64, 64, 3), 245)), 3) == []


def test_places_do_not_overlap_and_the_first_stay_the_same(draws: Draws) -> None:
    crop = draws(np.random.default_rng(1).integers(0, 256, (96, 96, 3)))
    five = [place.region for place in _places(crop, 5)]
    assert not any(overlapping(a, b) for a, b in combinations(five, 2))
    assert [place.region for place in _places(crop, 2)] == five[:2]
    assert [(region.x, region.y) for region in five] == [(80, 33), (26, 22), (50, 7), (41, 78), (24, 41)]
    others = [place.region for place in _places(crop, 5, seed=1)]
    assert [(region.x, region.y) for region in others] == [(71, 73), (9, 17), (75, 15), (53, 30), (28, 44)]


def test_where_there_is_no_room_left_places_overlap(draws: Draws) -> None:
    crop = draws(np.random.default_rng(1).integers(0, 256, (16, 24, 3)))
    found = [(place.region.x, place.region.y) for place in _places(crop, 4)]
    assert found == [(0, 0)] * 4
