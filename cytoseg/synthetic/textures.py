"""Textures and smooth random fields of synthetic slides."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatMap = NDArray[np.float32]

ATLAS_PX = 512
"""Period of a texture in pixels."""
NODE_PX = 16
"""Smooth fields are computed at every 16th pixel and interpolated."""


@dataclass(frozen=True)
class Textures:
    """Textures of unit deviation (creases and granules: 0 to about 1), each (512 + margin)² float32 and periodic.

    Attributes:
        cloud: Slow unevenness of cytoplasm, about 5 µm.
        mottle: Grain of cytoplasm, about 1 µm.
        chromatin: Clumps inside a nucleus, about half a µm.
        crease: Thin winding lines where cytoplasm is wrinkled.
        granule: Sparse dark dots: keratohyalin, bacteria.
        noise: Camera noise of neighbouring pixels, nearly white.
    """

    cloud: FloatMap
    mottle: FloatMap
    chromatin: FloatMap
    crease: FloatMap
    granule: FloatMap
    noise: FloatMap


def make_textures(seed: int, *, mpp: float, margin_px: int) -> Textures:
    """Make the textures of one slide.

    Args:
        seed: Seed of the slide.
        mpp: Micrometres per pixel, so that the grain has its true size.
        margin_px: Side of the largest window, by which textures are extended.

    Returns:
        Textures for windows of up to ``margin_px``.
    """
    rng = np.random.default_rng([seed, 1])
    lines = _smooth(rng, (2.0 / mpp, 5.0 / mpp))
    folded = np.exp(-((lines / 0.10) ** 2)) * np.clip(_smooth(rng, (7.0 / mpp, 7.0 / mpp)), 0, 1.5)
    dots = ndimage.gaussian_filter(
        (rng.random((ATLAS_PX, ATLAS_PX)) < min(0.06 * mpp**2, 0.2)).astype(np.float32), 0.30 / mpp, mode="wrap"
    )
    granule = np.clip(dots * 2 * np.pi * (0.30 / mpp) ** 2, 0, 1.5)
    maps = {
        "cloud": _smooth(rng, (2.5 / mpp, 2.5 / mpp)),
        "mottle": _smooth(rng, (0.45 / mpp, 0.45 / mpp)),
        "chromatin": np.tanh(1.3 * _smooth(rng, (0.40 / mpp, 0.40 / mpp))),
        "crease": folded,
        "granule": granule,
        "noise": _smooth(rng, (0.45, 0.45)),
    }
    margins = [(0, margin_px), (0, margin_px)]
    return Textures(**{name: np.pad(m.astype(np.float32), margins, mode="wrap") for name, m in maps.items()})


def window(texture: FloatMap, side_px: int, rng: np.random.Generator) -> FloatMap:
    """Cut a random, randomly rotated and flipped square from a texture.

    Args:
        texture: One of ``Textures``.
        side_px: At most the margin the textures were made with.
        rng: Random generator.

    Returns:
        (side_px, side_px) float32, a view.
    """
    x, y, turn = (int(value) for value in rng.integers(0, (ATLAS_PX, ATLAS_PX, 8)))
    cut = texture[y : y + side_px, x : x + side_px]
    cut = cut[:: 1 - 2 * (turn & 1), :: 1 - (turn & 2)]
    return cut.T if turn & 4 else cut


def _smooth(rng: np.random.Generator, sigma: tuple[float, float]) -> FloatMap:
    """Draw periodic Gaussian noise smoothed by sigma (rows, columns) in pixels, mean 0 and deviation 1."""
    white = rng.standard_normal((ATLAS_PX, ATLAS_PX), np.float32)
    smooth: FloatMap = ndimage.gaussian_filter(white, sigma, mode="wrap")
    standard: FloatMap = (smooth - smooth.mean()) / smooth.std()
    return standard


@dataclass(frozen=True)
class Field:
    """A smooth random field on the slide with mean 0 and deviation 1: a sum of plane waves.

    Attributes:
        waves: (n, 3) float64: radians per pixel along x and along y, and phase.
    """

    waves: NDArray[np.float64]

    def at(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Evaluate at level-0 pixels; x and y broadcast against each other."""
        total = sum(np.cos(kx * x + ky * y + phase) for kx, ky, phase in self.waves)
        field: NDArray[np.float64] = np.asarray(total) * np.sqrt(2 / len(self.waves))
        return field

    def over(self, x: NDArray[np.int64], y: NDArray[np.int64]) -> FloatMap:
        """Evaluate on a pixel grid by interpolation of fixed nodes, so that neighbouring bands are seamless.

        Args:
            x: (w,) consecutive columns.
            y: (h,) consecutive rows.

        Returns:
            (h, w) float32.
        """
        x_nodes, y_nodes = (np.arange(v[0] // NODE_PX, v[-1] // NODE_PX + 2) for v in (x, y))
        nodes = self.at(x_nodes[None] * float(NODE_PX), y_nodes[:, None] * float(NODE_PX)).astype(np.float32)
        left, top = x // NODE_PX - x_nodes[0], y // NODE_PX - y_nodes[0]
        across = (x % NODE_PX / NODE_PX).astype(np.float32)
        down = (y % NODE_PX / NODE_PX).astype(np.float32)[:, None]
        rows = nodes[:, left] + (nodes[:, left + 1] - nodes[:, left]) * across
        smooth: FloatMap = rows[top] + (rows[top + 1] - rows[top]) * down
        return smooth


def make_field(rng: np.random.Generator, *, shortest_px: float, longest_px: float, stretch: float = 1.0) -> Field:
    """Draw a field.

    Args:
        rng: Random generator.
        shortest_px: Shortest wavelength.
        longest_px: Longest wavelength.
        stretch: Anisotropy: length of features along a random direction relative to across.

    Returns:
        The field.
    """
    count = 14
    number = 2 * np.pi / np.exp(rng.uniform(np.log(shortest_px), np.log(longest_px), count))
    angle, main = rng.uniform(0, 2 * np.pi, count), rng.uniform(0, np.pi)
    along, across = number * np.cos(angle) / stretch, number * np.sin(angle)
    kx = along * np.cos(main) - across * np.sin(main)
    ky = along * np.sin(main) + across * np.cos(main)
    return Field(np.stack([kx, ky, rng.uniform(0, 2 * np.pi, count)], axis=1))
