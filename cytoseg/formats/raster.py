"""Rasterisation of rings, lines and points.

Coordinates are continuous, (x, y), with (0, 0) at the top left corner of the top left pixel: pixel (i, j) spans
[i, i + 1) x [j, j + 1).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import floor

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cytoseg.geometry import Region, Size, overlap

_MAX_RINGS = 512
"""Most rings filled in one go."""

_MAX_VALUES = 1_000_000
"""Most pixels and crossings, together, of rings filled in one go; a single ring may have more."""

_MAX_LINES = 256
"""Most segments of a polyline followed in one go."""


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
    """Fill one closed ring, (N, 2) float64 x and y in pixels, by the pixel-centre rule of ``fill_rings``."""
    return next(fill_rings([points], size))


def fill_rings(rings: Iterable[NDArray[np.float64]], size: Size) -> Iterator[Stamp]:
    """Fill closed rings by the pixel-centre rule: a pixel is covered if its centre (x + 0.5, y + 0.5) is inside.

    The even-odd rule applies, so a self-intersecting ring has holes. A centre exactly on a left or upper edge is
    inside, on a right or lower edge outside; two rings that share an edge therefore neither overlap nor leave a gap.

    Args:
        rings: Each (N, 2) float64, x and y in pixels; the last point is joined to the first.
        size: Size of the image.

    Yields:
        The covered pixels of each ring. Small rings are filled many at a time: one alone takes 0.2 ms in numpy calls.
    """
    left = iter(rings)
    while some := list(islice(left, _MAX_RINGS)):
        edges = _edges_of(some, size)
        for start, stop in _batches(edges.cost):
            yield from _filled(edges, start, stop)


@dataclass(frozen=True, eq=False)
class _Edges:
    """Edges of N rings, E in all, each directed down so that two rings round a shared edge equally.

    Attributes:
        windows: (N, 4) int64, column, row, width and height of the part of the image that a ring can touch.
        starts: (N + 1,) int64, first edge of each ring, and E.
        ring: (E,) int64, ring of an edge.
        upper: (2, E) float64, x and y of the upper end.
        lower: (2, E) float64, x and y of the lower end.
        first: (E,) int64, first image row whose centre line y = row + 0.5 is crossed: it is at or below the upper end.
        count: (E,) int64, number of rows crossed; the centre line of the last is above the lower end.
    """

    windows: NDArray[np.int64]
    starts: NDArray[np.int64]
    ring: NDArray[np.int64]
    upper: NDArray[np.float64]
    lower: NDArray[np.float64]
    first: NDArray[np.int64]
    count: NDArray[np.int64]

    @property
    def cost(self) -> NDArray[np.int64]:
        """Values needed to fill each ring, (N,) int64: its window, with one column more, and its crossings."""
        _, _, width, height = self.windows.T
        values: NDArray[np.int64] = (width + 1) * height + np.add.reduceat(self.count, self.starts[:-1])
        return values


def _edges_of(rings: Sequence[NDArray[np.float64]], size: Size) -> _Edges:
    lengths = np.array([len(ring) for ring in rings])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    points = np.concatenate(rings)
    after = np.arange(1, len(points) + 1)
    after[starts[1:] - 1] = starts[:-1]
    ends = points[after]
    up = (points[:, 1] > ends[:, 1])[:, None]
    upper, lower = np.where(up, ends, points).T, np.where(up, points, ends).T
    windows, ring = _windows(points, starts[:-1], size), np.repeat(np.arange(len(rings)), lengths)
    top, height = windows[ring, 1], windows[ring, 3]
    first, last = (np.ceil(y - 0.5).clip(top, top + height).astype(np.int64) for y in (upper[1], lower[1]))
    return _Edges(windows, starts, ring, upper, lower, first, last - first)


def _batches(cost: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Split rings into runs (start, stop) that together cost at most ``_MAX_VALUES``, or are one ring."""
    start, total = 0, 0
    for i, one in enumerate(cost.tolist()):
        if i > start and total + one > _MAX_VALUES:
            yield start, i
            start, total = i, 0
        total += one
    yield start, len(cost)


def _filled(edges: _Edges, start: int, stop: int) -> Iterator[Stamp]:
    """Fill the rings from ``start`` up to ``stop`` in one array with their windows, row by row, one after another."""
    these = slice(edges.starts[start], edges.starts[stop])
    (x0, y0), (x1, y1), count = edges.upper[:, these], edges.lower[:, these], edges.count[these]
    edge = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + edges.first[these][edge]
    crossing = x0[edge] + (row + 0.5 - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    windows, ring = edges.windows[start:stop], edges.ring[these][edge] - start
    x, y, width, height = windows.T
    column = (np.ceil(crossing - 0.5) - x[ring]).clip(0, width[ring]).astype(np.int64)
    places = np.concatenate([[0], np.cumsum((width + 1) * height)])
    # Every crossing toggles inside and outside for all pixels to its right. A closed ring crosses each row an even
    # number of times, so that after the last column, which is one more than the window has, it is outside again.
    turns = np.zeros(places[-1], np.bool_)
    np.logical_xor.at(turns, places[ring] + (row - y[ring]) * (width[ring] + 1) + column, True)
    inside = np.logical_xor.accumulate(turns)
    for (left, top, across, down), place in zip(windows.tolist(), places.tolist(), strict=False):
        mask = inside[place : place + (across + 1) * down].reshape(down, across + 1)
        yield Stamp(left, top, mask[:, :-1])


def ring_outline(points: NDArray[np.float64], size: Size) -> Stamp:
    """Fill a closed ring including its outline, with coordinates as pixel indices, like labelme's own label maps.

    For rings traced from pixel indices: a square through pixels 2 and 7 covers 6 x 6 pixels, 5 x 5 by the centre rule.

    Args:
        points: (N, 2) float64, x and y in pixels.
        size: Size of the image.

    Returns:
        The covered pixels.
    """
    # Plain numbers: numpy calls for a dozen points take longer than the drawing.
    xs, ys = points.T.tolist()
    left, top = floor(min(xs)) - 1, floor(min(ys)) - 1
    window = overlap(Region(left, top, floor(max(xs)) + 2 - left, floor(max(ys)) + 2 - top), size)
    image = Image.new("L", (window.width, window.height))
    shifted = [(x - window.x, y - window.y) for x, y in zip(xs, ys, strict=True)]
    ImageDraw.Draw(image).polygon(shifted, fill=1, outline=1)
    return Stamp(window.x, window.y, np.array(image).view(np.bool_))


def path_pixels(points: NDArray[np.float64], size: Size) -> Stamp:
    """Find every pixel that a polyline passes through.

    Args:
        points: (N, 2) float64, x and y in pixels; two or more points, which may coincide.
        size: Size of the image.

    Returns:
        The covered pixels. Points exactly on the right or lower border belong to the last column or row.
    """
    parts = [points[i : i + _MAX_LINES + 1] for i in range(0, len(points) - 1, _MAX_LINES)]
    return point_pixels(np.concatenate([_cell_points(part[:-1], part[1:], size) for part in parts]), size)


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


def _cell_points(starts: NDArray[np.float64], ends: NDArray[np.float64], size: Size) -> NDArray[np.float64]:
    """Return one point of each line inside each pixel that the line passes through.

    Args:
        starts: (N, 2) float64, x and y in pixels.
        ends: (N, 2) float64.
        size: Size of the image; lines are cut into pixels only inside it, so that one far outside costs no memory.

    Returns:
        (M, 2) float64.
    """
    step, numbers = ends - starts, np.arange(len(starts))
    line, cuts = [numbers, numbers], [np.zeros(len(starts)), np.ones(len(starts))]
    for axis, length in ((0, size.width), (1, size.height)):
        both = np.stack([starts[:, axis], ends[:, axis]]).clip(0, length)
        first = np.ceil(both.min(axis=0)).astype(np.int64)
        count = np.where(step[:, axis] == 0, 0, np.floor(both.max(axis=0)).astype(np.int64) + 1 - first)
        cut = np.repeat(numbers, count)
        grid = np.arange(len(cut)) - np.repeat(np.cumsum(count) - count, count) + first[cut]
        line.append(cut)
        cuts.append((grid - starts[cut, axis]) / step[cut, axis])
    of, at = np.concatenate(line), np.concatenate(cuts).clip(0, 1)
    order = np.lexsort((at, of))
    of, at = of[order], at[order]
    # Cuts closer than rounding errors belong to one grid corner: no pixel lies between them.
    apart = (np.diff(at) > 1e-12) & (of[1:] == of[:-1])
    of, middle = of[:-1][apart], ((at[:-1] + at[1:]) / 2)[apart]
    return np.asarray(starts[of] + middle[:, None] * step[of])


def _windows(points: NDArray[np.float64], starts: NDArray[np.int64], size: Size) -> NDArray[np.int64]:
    """Find the part of the image that each ring can touch, with a margin of one pixel for rounding."""
    border = (size.width, size.height)
    low = (np.floor(np.minimum.reduceat(points, starts)).astype(np.int64) - 1).clip(0, border)
    high = (np.floor(np.maximum.reduceat(points, starts)).astype(np.int64) + 2).clip(low, border)
    return np.concatenate([low, high - low], axis=1)
