"""The outline of an object along the edges of its pixels, as polygons that touch themselves nowhere but at corners."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytoseg.predict.margins import fenced

Mask = NDArray[np.bool_]
Ring = NDArray[np.int64]
"""(N, 2) corners, x and y; the last is joined to the first."""


@dataclass(frozen=True, eq=False)
class Polygon:
    """One outline with its holes.

    Attributes:
        exterior: Its signed area is positive (clockwise as seen on the screen, where y points down).
        holes: Likewise, with negative areas.
    """

    exterior: Ring
    holes: tuple[Ring, ...]


@dataclass(frozen=True, eq=False)
class _Sides:
    """Straight stretches of an outline, the object on their right; ``heading`` is 0 right, 1 down, 2 left, 3 up."""

    begin: Ring
    end: Ring
    heading: NDArray[np.int64]


def polygons(mask: Mask) -> list[Polygon]:
    """Trace an object.

    Pixels that touch only at a corner become polygons of their own: one ring through both would cross itself, which
    is no valid polygon. Several polygons that touch at points are a valid multipolygon.

    Args:
        mask: (H, W) bool, the object.

    Returns:
        One polygon for each part that is connected by sides, in the order of their first pixels. Pixel (i, j) spans
        [j, j + 1] x [i, i + 1]; the areas less the holes add up to the number of pixels.
    """
    parts, count = ndimage.label(mask)
    return [_polygon(parts == number if count > 1 else mask) for number in range(1, count + 1)]


def signed_area(ring: Ring) -> int:
    """Measure the area of a ring of whole corners; positive if it turns from x towards y."""
    x, y = ring.T
    return int(x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1]) // 2


def _polygon(part: Mask) -> Polygon:
    rings = _rings(part)
    # Exactly one ring goes around a part; the others, in it, turn the other way.
    (exterior,) = (ring for ring in rings if signed_area(ring) > 0)
    return Polygon(exterior, tuple(ring for ring in rings if signed_area(ring) < 0))


def _rings(part: Mask) -> list[Ring]:
    sides = _sides(part)
    follower = _followers(sides, width=part.shape[1] + 1).tolist()
    rings, used = [], [False] * len(follower)
    for first in range(len(follower)):
        ring, at = [], first
        while not used[at]:
            used[at] = True
            ring.append(at)
            at = follower[at]
        if ring:
            rings.append(sides.begin[ring])
    return rings


def _sides(part: Mask) -> _Sides:
    inside = fenced(part).view(np.int8)
    # 1 where the object begins below (or to the right of) an edge of the grid, -1 where it ends there.
    y, x, length, kind = _stretches(inside[1:, 1:] - inside[:-1, 1:])
    across = _directed(x, y, x + length, y, forward=kind > 0)
    column, row, height, turn = _stretches((inside[1:, 1:] - inside[1:, :-1]).T)
    down = _directed(column, row, column, row + height, forward=turn < 0)
    heading = np.concatenate([np.where(kind > 0, 0, 2), np.where(turn < 0, 1, 3)])
    return _Sides(np.concatenate([across[0], down[0]]), np.concatenate([across[1], down[1]]), heading)


def _stretches(edges: NDArray[np.int8]) -> tuple[Ring, Ring, Ring, Ring]:
    """Find runs of one value other than 0: row, first column, length and value; the last column must be 0."""
    flat = edges.ravel()
    first = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[0]:
        first = np.concatenate([[0], first])
    value = flat[first]
    line = np.flatnonzero(value)
    # A run ends at the latest in the last column, so another value follows each.
    row, column = np.divmod(first[line], edges.shape[1])
    return row, column, first[line + 1] - first[line], value[line].astype(np.int64)


def _directed(x0: Ring, y0: Ring, x1: Ring, y1: Ring, *, forward: Mask) -> tuple[Ring, Ring]:
    low, high = np.stack([x0, y0], axis=1), np.stack([x1, y1], axis=1)
    return np.where(forward[:, None], low, high), np.where(forward[:, None], high, low)


def _followers(sides: _Sides, *, width: int) -> NDArray[np.int64]:
    """Find the side that begins where each one ends.

    At a corner where two pixels of the part touch, two sides begin. The way to the left is taken, over to the other
    pixel: what lies between is then a ring of its own, and none passes a corner twice.
    """
    begins = (sides.begin[:, 1] * width + sides.begin[:, 0]) * 4 + sides.heading
    ends = (sides.end[:, 1] * width + sides.end[:, 0]) * 4
    order = np.argsort(begins)
    in_order = begins[order]
    left = np.searchsorted(in_order, ends + (sides.heading + 3) % 4)
    right = np.searchsorted(in_order, ends + (sides.heading + 1) % 4)
    there = in_order[np.minimum(left, len(order) - 1)] == ends + (sides.heading + 3) % 4
    return np.asarray(order[np.where(there, left, right)])
