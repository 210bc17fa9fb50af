"""Rasterisation of rings, lines and points.

Coordinates are continuous, (x, y), with (0, 0) at the top left corner of the top left pixel: pixel (i, j) spans
[i, i + 1) x [j, j + 1).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cytoseg.geometry import Region, Size, overlap


@dataclass(frozen=True, eq=False)
class Stamp:
    """Pixels of one shape, clipped to the image.

    Attributes:
        x: Column of the mask's left edge in the image.
        y: Row of the mask's top edge in the image.
        mask: (h, w) bool, possibly empty.
    """

    x: int
    y: int
    mask: NDArray[np.bool_]

    @property
    def empty(self) -> bool:
        """Whether no pixel of the image is covered."""
        return not self.mask.any()

    def without(self, other: "Stamp") -> "Stamp":
        """Subtract the pixels of another stamp of the same image."""
        mask = self.mask.copy()
        height, width = other.mask.shape
        top, left = max(0, other.y - self.y), max(0, other.x - self.x)
        part = mask[top : max(0, other.y + height - self.y), left : max(0, other.x + width - self.x)]
        y, x = max(0, self.y - other.y), max(0, self.x - other.x)
        part &= ~other.mask[y : y + part.shape[0], x : x + part.shape[1]]
        return Stamp(self.x, self.y, mask)

    def press(self, label_map: NDArray[np.uint8], value: int) -> None:
        """Write a value into a label map, (H, W) uint8, at the covered pixels."""
        height, width = self.mask.shape
        label_map[self.y : self.y + height, self.x : self.x + width][self.mask] = value


def ring_centres(points: NDArray[np.float64], size: Size) -> Stamp:
    """Fill a closed ring by the pixel-centre rule: a pixel is covered if its centre (x + 0.5, y + 0.5) is inside it.

    The even-odd rule applies, so a self-intersecting ring has holes. A centre exactly on a left or upper edge is
    inside, on a right or lower edge outside; two rings that share an edge therefore neither overlap nor leave a gap.

    Args:
        points: (N, 2) float64, x and y in pixels; the last point is joined to the first.
        size: Size of the image.

    Returns:
        The covered pixels.
    """
    window = _window(points, size)
    # In image coordinates with all edges directed down, so that two rings round a shared edge equally.
    ends = np.concatenate([points[1:], points[:1]])
    up = (points[:, 1] > ends[:, 1])[:, None]
    (x0, y0), (x1, y1) = np.where(up, ends, points).T, np.where(up, points, ends).T
    # Row j is crossed by edges with one end at or above its centre line y = j + 0.5 and the other below.
    top, bottom = window.y, window.y + window.height
    first, last = (np.ceil(y - 0.5).clip(top, bottom).astype(np.int64) for y in (y0, y1))
    count = last - first
    edge = np.repeat(np.arange(len(points)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    crossing = x0[edge] + (row + 0.5 - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    column = (np.ceil(crossing - 0.5) - window.x).clip(0, window.width).astype(np.int64)
    # Every crossing toggles inside and outside for all pixels to its right.
    turns = np.zeros((window.height, window.width + 1), np.bool_)
    np.logical_xor.at(turns, (row - window.y, column), True)
    return Stamp(window.x, window.y, np.logical_xor.accumulate(turns[:, :-1], axis=1))


def ring_outline(points: NDArray[np.float64], size: Size) -> Stamp:
    """Fill a closed ring including its outline, with coordinates as pixel indices, like labelme's own label maps.

    For rings traced from pixel indices: a square through pixels 2 and 7 covers 6 x 6 pixels, 5 x 5 by the centre rule.

    Args:
        points: (N, 2) float64, x and y in pixels.
        size: Size of the image.

    Returns:
        The covered pixels.
    """
    window = _window(points, size)
    image = Image.new("1", (window.width, window.height))
    shifted = points - [window.x, window.y]
    ImageDraw.Draw(image).polygon([(float(x), float(y)) for x, y in shifted], fill=1, outline=1)
    return Stamp(window.x, window.y, np.array(image, np.bool_))


def path_pixels(points: NDArray[np.float64], size: Size) -> Stamp:
    """Find every pixel that a polyline passes through.

    Args:
        points: (N, 2) float64, x and y in pixels; two or more points, which may coincide.
        size: Size of the image.

    Returns:
        The covered pixels. Points exactly on the right or lower border belong to the last column or row.
    """
    return point_pixels(np.concatenate([_cell_points(a, b, size) for a, b in pairwise(points)]), size)


def point_pixels(points: NDArray[np.float64], size: Size) -> Stamp:
    """Find the pixel that contains each of (N, 2) float64 points; see ``path_pixels`` for points on the border."""
    border = np.array([size.width, size.height])
    cells = np.where(points == border, border - 1, np.floor(points))
    cells = cells[np.all((cells >= 0) & (cells < border), axis=1)].astype(np.int64)
    if not len(cells):
        return Stamp(0, 0, np.zeros((0, 0), np.bool_))
    (x0, y0), (x1, y1) = cells.min(axis=0), cells.max(axis=0)
    mask = np.zeros((y1 - y0 + 1, x1 - x0 + 1), np.bool_)
    mask[cells[:, 1] - y0, cells[:, 0] - x0] = True
    return Stamp(int(x0), int(y0), mask)


def placed_mask(mask: NDArray[np.bool_], *, x: int, y: int, size: Size) -> Stamp:
    """Place an (h, w) bool mask with its top left pixel at column x, row y of the image, clipped to it."""
    height, width = mask.shape
    seen = overlap(Region(x, y, width, height), size)
    return Stamp(seen.x, seen.y, mask[max(0, -y) :, max(0, -x) :][: seen.height, : seen.width])


def _cell_points(a: NDArray[np.float64], b: NDArray[np.float64], size: Size) -> NDArray[np.float64]:
    """Return one point of the line from a to b inside each pixel it passes through, (M, 2)."""
    step = b - a
    cuts = [np.array([0.0, 1.0])]
    for axis, length in ((0, size.width), (1, size.height)):
        if step[axis] != 0:
            # Only grid lines of the image: a line far outside must not cost memory.
            low, high = np.clip(sorted((a[axis], b[axis])), 0, length)
            cuts.append((np.arange(np.ceil(low), np.floor(high) + 1) - a[axis]) / step[axis])
    at = np.unique(np.clip(np.concatenate(cuts), 0, 1))
    # Cuts closer than rounding errors belong to one grid corner: no pixel lies between them.
    apart = np.diff(at) > 1e-12
    middle = (at[:-1][apart] + at[1:][apart]) / 2
    return np.asarray(a + middle[:, None] * step)


def _window(points: NDArray[np.float64], size: Size) -> Region:
    """Find the part of the image that a ring can touch, with a margin of one pixel for rounding."""
    x0, y0 = (int(v) - 1 for v in np.floor(points.min(axis=0)))
    x1, y1 = (int(v) + 2 for v in np.floor(points.max(axis=0)))
    return overlap(Region(x0, y0, x1 - x0, y1 - y0), size)
