from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from cytoseg.geometry import Region
from cytoseg.slides.open import open_slide
from cytoseg.slides.settings import BackgroundSection
from cytoseg.slides.tissue_mask import TissueMask, tissue_mask

Write = Callable[..., Path]
Pixels = NDArray[Any]

GROUNDS = {"white": (250, 250, 250), "grey": (190, 190, 190), "pink": (211, 193, 199)}
STAINS = {"blue": (150, 185, 200), "pink": (235, 140, 215), "orange": (240, 190, 130), "pale": (205, 215, 220)}


def noisy(colour: tuple[int, int, int], *, sigma: float, side: int = 96) -> Pixels:
    noise = np.random.default_rng(0).normal(0, sigma, (side, side, 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def mask_of(write_tiff: Write, pixels: Pixels, *, rule: Any = "otsu", threshold: float = 0.0) -> TissueMask:
    with open_slide(write_tiff(pixels)) as slide:
        return tissue_mask(slide, BackgroundSection(rule, threshold))


def test_share_and_cover_of_a_mask() -> None:
    mask = TissueMask(np.array([[True, False], [True, True]]), 10.0)
    assert mask.share() == 0.75
    assert mask.covers(Region(0, 0, 20, 20)) == 0.75
    assert mask.covers(Region(0, 0, 10, 10)) == 1.0
    assert mask.covers(Region(10, 0, 5, 5)) == 0.0
    assert mask.covers(Region(5, 0, 10, 10)) == 0.5
    assert mask.covers(Region(5, 5, 10, 10)) == 0.75
    assert mask.covers(Region(9, 9, 1, 1)) == 1.0


def test_nothing_outside_the_slide_is_covered() -> None:
    mask = TissueMask(np.ones((2, 2), np.bool_), 10.0)
    assert mask.covers(Region(-5, 0, 10, 10)) == 0.5
    assert mask.covers(Region(15, 15, 10, 10)) == 0.25
    assert mask.covers(Region(40, 0, 5, 5)) == 0.0
    assert mask.covers(Region(-40, -40, 5, 5)) == 0.0


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("stain", STAINS)
def test_otsu_finds_cells_of_every_stain_on_white(write_tiff: Write, ground: str, stain: str) -> None:
    # Light passes through glass and stain, so both take their share of it.
    through = tuple(round(a * b / 250) for a, b in zip(GROUNDS[ground], STAINS[stain], strict=True))
    pixels = noisy(GROUNDS[ground], sigma=3)
    pixels[20:60, 30:80] = noisy((through[0], through[1], through[2]), sigma=3)[20:60, 30:80]
    pixels[35:41, 50:56] = (50, 40, 80)  # a nucleus does not make its cytoplasm glass
    mask = mask_of(write_tiff, pixels)
    assert mask.downsample == 1.0
    assert mask.mask[22:58, 32:78].mean() > 0.99
    outside = mask.mask.copy()
    outside[18:62, 28:82] = False
    assert not outside.any()


@pytest.mark.parametrize("ground", GROUNDS.values())
@pytest.mark.parametrize("sigma", [0, 2, 8])
def test_otsu_finds_nothing_on_bare_glass(write_tiff: Write, ground: tuple[int, int, int], sigma: float) -> None:
    assert mask_of(write_tiff, noisy(ground, sigma=sigma)).share() == 0


def test_otsu_finds_nothing_on_unevenly_lit_glass(write_tiff: Write) -> None:
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    light = 1 - 0.06 * (x**2 + y**2)
    assert mask_of(write_tiff, (noisy((235, 225, 228), sigma=3) * light[..., None]).astype(np.uint8)).share() == 0


@pytest.mark.parametrize("stain", ["blue", "pink", "orange"])
@pytest.mark.parametrize("sigma", [0, 8])
def test_otsu_takes_all_of_a_slide_without_glass(write_tiff: Write, stain: str, sigma: float) -> None:
    colour = tuple(round(0.7 * value) for value in STAINS[stain])
    assert mask_of(write_tiff, noisy((colour[0], colour[1], colour[2]), sigma=sigma)).share() == 1


def test_threshold_takes_what_is_denser(write_tiff: Write) -> None:
    pixels = np.full((16, 16, 3), 255, np.uint8)
    pixels[:, 4:8] = 127  # density log10(256 / 128) = 0.301
    pixels[:, 8:12] = (127, 255, 255)  # a third of that on average
    expected = np.zeros((16, 16), np.bool_)
    expected[:, 4:8] = True
    assert_array_equal(mask_of(write_tiff, pixels, rule="threshold", threshold=0.11).mask, expected)
    expected[:, 8:12] = True
    assert_array_equal(mask_of(write_tiff, pixels, rule="threshold", threshold=0.09).mask, expected)
    assert mask_of(write_tiff, pixels, rule="threshold", threshold=0.31).share() == 0


def test_none_takes_everything(write_tiff: Write) -> None:
    mask = mask_of(write_tiff, np.full((20, 30, 3), 255, np.uint8), rule="none")
    assert mask.mask.shape == (20, 30)
    assert mask.share() == 1


def test_unknown_rule(write_tiff: Write) -> None:
    with pytest.raises(ValueError, match=r"background rule 'otso': must be otsu, threshold or none"):
        mask_of(write_tiff, np.zeros((16, 16, 3), np.uint8), rule="otso")


@pytest.mark.parametrize("rule", ["otsu", "none"])
def test_mask_of_a_large_slide_is_small(write_tiff: Write, rule: Any) -> None:
    pixels = np.full((100, 400, 3), 255, np.uint8)
    pixels[:, 200:] = (120, 60, 150)
    with open_slide(write_tiff(pixels)) as slide:
        mask = tissue_mask(slide, BackgroundSection(rule), max_px=40)
    assert mask.mask.shape == (10, 40)
    assert mask.downsample == 10.0
    assert mask.covers(Region(210, 0, 100, 100)) == 1
    assert mask.covers(Region(0, 0, 190, 100)) == (0 if rule == "otsu" else 1)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("lbc/unlabeled/lbc_047.jpg", 0.25, 0.4),  # white ground, few cells
        ("lbc/unlabeled/lbc_114.jpg", 0.6, 0.8),  # grey-pink ground, many cells
        ("lbc/unlabeled/lbc_275.jpg", 0.6, 0.8),  # magenta
        ("cric/008df697b9283d9ad4774096584d2efb.jpg", 0.05, 0.15),
        ("wsi/CMU-1-Small-Region.svs", 0.3, 0.45),
    ],
)
def test_share_of_real_slides(cytoseg_data: Path, name: str, low: float, high: float) -> None:
    with open_slide(cytoseg_data / name) as slide:
        assert low < tissue_mask(slide, BackgroundSection()).share() < high
