"""Shapes of synthetic slides: stamps, outlines and distances."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytoseg.synthetic.stains import Colour
from cytoseg.synthetic.textures import FloatMap

ANGLES = 512
"""Number of radii of an outline, starting at -180°."""
ANGLE: NDArray[np.float64] = np.linspace(-np.pi, np.pi, 2 * ANGLES + 1, dtype=np.float64)[1::2]


@dataclass(frozen=True)
class Stamp:
    """Contribution of one item to a slide.

    Attributes:
        x: Left edge in level-0 pixels; may be outside the slide.
        y: Upper edge in level-0 pixels.
        layers: Thickness (n, n) float32 and the optical density of one unit of it.
        inside: (n, n) bool, extent of the item; None for an item without a class.
        class_id: Its class; the larger id wins where items overlap.
    """

    x: int
    y: int
    layers: tuple[tuple[FloatMap, Colour], ...]
    inside: NDArray[np.bool_] | None = None
    class_id: int = 0


@dataclass(frozen=True)
class Grid:
    """Pixel centres of a square relative to an item's centre.

    Attributes:
        x: Left edge in level-0 pixels.
        y: Upper edge in level-0 pixels.
        dx: (1, n) float32 offsets in pixels.
        dy: (n, 1) float32 offsets in pixels.
    """

    x: int
    y: int
    dx: FloatMap
    dy: FloatMap

    @property
    def side_px(self) -> int:
        """Height and width."""
        return int(self.dx.shape[1])


def make_grid(x: float, y: float, reach_px: int) -> Grid:
    """Make a square of 2 * reach_px + 1 pixels around a centre in level-0 pixels."""
    left, top = int(np.floor(x)) - reach_px, int(np.floor(y)) - reach_px
    steps = np.arange(2 * reach_px + 1) + 0.5
    dx, dy = (steps + left - x).astype(np.float32), (steps + top - y).astype(np.float32)
    return Grid(left, top, dx[None, :], dy[:, None])


def polygon(
    rng: np.random.Generator, radius_px: float, *, sharpness: float, aspect: float, longest_px: float
) -> FloatMap:
    """Draw the outline of a squamous cell: a polygon with rounded corners and slightly uneven sides.

    Args:
        rng: Random generator.
        radius_px: Mean radius.
        sharpness: 3 is nearly round, 15 has distinct corners.
        aspect: Length over width, above 1.
        longest_px: Largest radius.

    Returns:
        (512,) float32 radii in pixels.
    """
    sides = int(rng.integers(5, 8))
    normal = (np.arange(sides) + rng.uniform(-0.28, 0.28, sides)) * (2 * np.pi / sides) + rng.uniform(0, 2 * np.pi)
    distance = rng.uniform(0.72, 1.15, sides)
    # Along a ray, 1 / r is the maximum of the sides' cos / distance; the power mean rounds the corners.
    facing = np.maximum(np.cos(ANGLE[:, None] - normal), 0) / distance
    radius = (facing**sharpness).sum(axis=1) ** (-1 / sharpness)
    radius *= 1 + harmonics(rng, (3, 11), 0.035)
    turned = ANGLE - rng.uniform(0, np.pi)
    radius /= np.sqrt((np.cos(turned) / aspect) ** 2 + np.sin(turned) ** 2)
    outline: FloatMap = np.minimum(radius * (radius_px / radius.mean()), longest_px).astype(np.float32)
    return outline


def ellipse(rng: np.random.Generator, radius_px: float, *, aspect: float, uneven: float) -> FloatMap:
    """Draw the outline of a nucleus: an ellipse with dents.

    Args:
        rng: Random generator.
        radius_px: Geometric mean of the half axes.
        aspect: Long axis over short axis.
        uneven: Relative standard deviation of the radius.

    Returns:
        (512,) float32 radii in pixels.
    """
    turned = ANGLE - rng.uniform(0, np.pi)
    radius = radius_px / np.sqrt(np.cos(turned) ** 2 / aspect + np.sin(turned) ** 2 * aspect)
    return (radius * (1 + harmonics(rng, (2, 6), uneven))).astype(np.float32)


def harmonics(rng: np.random.Generator, orders: tuple[int, int], deviation: float) -> NDArray[np.float64]:
    """Draw a smooth periodic function of the angle, (512,) float64, of mean 0 and about the given deviation."""
    order = np.arange(*orders)
    weight = rng.normal(0, 1, len(order)) / order * orders[0]
    phase = rng.uniform(0, 2 * np.pi, len(order))
    waves: NDArray[np.float64] = (weight * np.cos(ANGLE[:, None] * order + phase)).sum(axis=1)
    return deviation * waves


def beyond(outline: FloatMap, dx: FloatMap, dy: FloatMap) -> FloatMap:
    """Measure the distance of points beyond an outline along their ray.

    Args:
        outline: (512,) radii in pixels.
        dx: Offsets from the centre in pixels; broadcasts with dy.
        dy: Offsets from the centre in pixels.

    Returns:
        (n, n) float32 in pixels, negative inside.
    """
    index = (np.arctan2(dy, dx) * (ANGLES / (2 * np.pi)) + ANGLES / 2).astype(np.int32) % ANGLES
    distance: FloatMap = np.sqrt(dx * dx + dy * dy) - outline[index]
    return distance


def cover(distance: FloatMap, soft_px: float = 1.2) -> FloatMap:
    """Convert a signed distance to coverage from 0 outside to 1 inside, with an edge of the given width in pixels."""
    covered: FloatMap = np.clip(0.5 - distance / np.float32(soft_px), 0, 1)
    return covered


def bump(distance: FloatMap, width_px: float) -> FloatMap:
    """Make a soft ridge of height 1 where a signed distance is 0."""
    scaled = distance / np.float32(max(width_px, 0.6))
    ridge: FloatMap = np.exp(-scaled * scaled)
    return ridge
