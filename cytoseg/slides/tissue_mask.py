"""Tissue mask of a slide, computed at low resolution."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytoseg.geometry import Region, Size
from cytoseg.slides.open import read_at
from cytoseg.slides.optical_density import optical_density
from cytoseg.slides.settings import BackgroundSection
from cytoseg.slides.slide import Slide

_DARKEST_GROUND = 150.0  # bare glass is brighter in every channel, even in dark exposures
_MIN_GROUND_RATIO = 0.8  # ratio of lowest to highest channel: glass may be tinted but not stained
_DENSE = 0.2  # clip optical density, otherwise Otsu separates nuclei and pale cells fall on the side of the glass
MASK_PX = 1024
"""Default longer side of the mask."""
_CLEAR = 0.05  # a smaller difference between the two groups is noise or uneven light, not cells and glass


@dataclass(frozen=True)
class TissueMask:
    """The parts of a slide that contain cells.

    Attributes:
        mask: (h, w) bool over the whole slide, True for cells.
        downsample: How many level-0 pixels one pixel of the mask spans.
    """

    mask: NDArray[np.bool_]
    downsample: float

    def share(self) -> float:
        """Fraction of the slide that contains cells, 0 to 1."""
        return float(self.mask.mean())

    def covers(self, region: Region) -> float:
        """Fraction of a region's area that contains cells, 0 to 1; area outside the slide counts as empty.

        Args:
            region: In level-0 pixels.
        """
        columns = _touched(region.x, region.width, self.downsample, self.mask.shape[1])
        rows = _touched(region.y, region.height, self.downsample, self.mask.shape[0])
        return float(rows @ self.mask @ columns) / (region.width * region.height)


def tissue_mask(slide: Slide, background: BackgroundSection, *, max_px: int = MASK_PX) -> TissueMask:
    """Compute the tissue mask of a slide at low resolution with constant memory.

    Args:
        slide: An open slide.
        background: The rule ``otsu`` finds the threshold between glass and cells itself: for most slides, also with a
            grey or tinted background. ``threshold`` takes what is denser than the threshold, a mean optical density of
            the three channels against white: where Otsu fails. ``none`` takes everything.
        max_px: Longer side of the mask.

    Returns:
        The mask.

    Raises:
        SlideError: If the file is damaged.
        ValueError: If there is no such rule.
    """
    full = slide.levels[0].size
    downsample = max(1.0, max(full.width, full.height) / max_px)
    size = Size(max(1, round(full.width / downsample)), max(1, round(full.height / downsample)))
    if background.rule == "none":
        return TissueMask(np.ones((size.height, size.width), np.bool_), downsample)
    if background.rule not in ("otsu", "threshold"):
        raise ValueError(f"background rule {background.rule!r}: must be otsu, threshold or none.")
    pixels = read_at(slide, Region(0, 0, full.width, full.height), size)
    return TissueMask(_otsu(pixels) if background.rule == "otsu" else _denser(pixels, background.threshold), downsample)


def _denser(pixels: NDArray[np.uint8], threshold: float) -> NDArray[np.bool_]:
    density = optical_density(pixels.astype(np.float32)).mean(axis=2)
    return np.asarray(density > threshold, np.bool_)


def _otsu(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    # It loads scipy, which `recipe check` and the app's list of runs can do without.
    from skimage.filters import gaussian, threshold_otsu

    # Smooth before estimating the background: the brightest pixels of noisy glass are brighter than the glass.
    smooth = gaussian(pixels.astype(np.float32), sigma=1, channel_axis=2)
    # Use the densest channel, because every stain leaves some channel clear.
    density = np.clip(optical_density(smooth, _ground(smooth)).max(axis=2), 0, _DENSE)
    cells = np.asarray(density > threshold_otsu(density), np.bool_)
    if cells.any() and density[cells].mean() - density[~cells].mean() >= _CLEAR:
        return cells
    return np.full(cells.shape, np.median(density) > _CLEAR, np.bool_)


def _ground(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Estimate the (3,) colour of bare glass from the brightest pixels, unless they are too dark or coloured."""
    bright = np.percentile(pixels.reshape(-1, 3), 98, axis=0)
    return np.maximum(bright, max(_DARKEST_GROUND, _MIN_GROUND_RATIO * bright.max())).astype(np.float32)


def _touched(start: int, length: int, downsample: float, cells: int) -> NDArray[np.float64]:
    """Compute how many level-0 pixels of an interval lie in each cell of the mask, (cells,)."""
    edges = np.clip(np.arange(cells + 1) * downsample, start, start + length)
    return np.diff(edges)
