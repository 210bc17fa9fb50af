"""Simplifying outlines to few corners within half a pixel."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from skimage import measure

from cytoseg.labels.outlines import Polygon

TOLERANCES_PX = (0.5, 0.35, 0.25, 0.1)
"""Tolerances in pixels, tried in order until the area changes little enough."""

LEAST_IOU = 0.98
"""Largest change of area, as a fraction of the object. The smallest objects exceed it and keep their exact outline."""

_CHUNK = 256

Points = NDArray[np.float64]
"""(N, 2) corners, x and y in pixels, closed implicitly."""


def simplified(polygons: Sequence[Polygon]) -> list[list[Points]]:
    """Return the outlines of one object with fewer corners, or unchanged if that is not possible.

    Corners are first cut from the middle of one edge to the middle of the next, which straightens pixel staircases;
    then corners are dropped within a tolerance (Douglas-Peucker). The result is used if no two of its segments meet and
    the area between it and the exact outline is small.

    Args:
        polygons: Polygons of one object, from ``outline``.

    Returns:
        For each polygon its exterior and then its holes, with unchanged orientation; coordinates are multiples of 0.5.
    """
    exact = exactly(polygons)
    most = (1 - LEAST_IOU) * sum(_area(ring) for polygon in exact for ring in polygon)
    lines = [[_with_middles(ring) for ring in polygon] for polygon in exact]
    if sum(_between(line, _middles(line)) for polygon in lines for line in polygon) > most:
        return exact
    for tolerance in TOLERANCES_PX:
        kept = [[_kept(line, tolerance) for line in polygon] for polygon in lines]
        pairs = [pair for polygon in zip(lines, kept, strict=True) for pair in zip(*polygon, strict=True)]
        if sum(_between(line, at) for line, at in pairs) <= most:
            rings = [[line[at] for line, at in zip(*polygon, strict=True)] for polygon in zip(lines, kept, strict=True)]
            return exact if _meet([ring for polygon in rings for ring in polygon]) else rings
    return exact


def exactly(polygons: Sequence[Polygon]) -> list[list[Points]]:
    """Return the exact outlines in the form of ``simplified``."""
    return [[ring.astype(np.float64) for ring in (polygon.exterior, *polygon.holes)] for polygon in polygons]


def _with_middles(ring: Points) -> Points:
    """Insert a point half a pixel before and after each corner: (3 N, 2), corners at 1, 4, 7, ..."""
    step = np.sign(np.roll(ring, -1, axis=0) - ring) * 0.5
    return np.stack([ring - np.roll(step, 1, axis=0), ring, ring + step], axis=1).reshape(-1, 2)


def _middles(line: Points) -> NDArray[np.intp]:
    """Return the indices of all points except corners, without duplicates on edges of one pixel."""
    middles = np.flatnonzero(np.arange(len(line)) % 3 != 1)
    points = line[middles]
    return middles[np.any(points != np.roll(points, 1, axis=0), axis=1)]


def _kept(line: Points, tolerance: float) -> NDArray[np.intp]:
    """Choose points of a ring by index, never corners, such that the others stay within a tolerance."""
    middles = _middles(line)
    points = line[middles]
    few = measure.approximate_polygon(np.concatenate([points, points[:1]]), tolerance)[:-1]
    if len(few) < 3:
        return middles
    places = {tuple(point) for point in few.tolist()}
    return middles[[tuple(point) in places for point in points.tolist()]]


def _between(line: Points, kept: NDArray[np.intp]) -> float:
    """Measure the area between a ring and its simplification; counted twice where the ring turns back."""
    line, at = np.roll(line, -kept[0], axis=0), kept - kept[0]
    owner = np.searchsorted(at, np.arange(len(line)), side="right") - 1
    start = line[at]
    chord = np.roll(start, -1, axis=0) - start
    along = chord / np.maximum(np.hypot(*chord.T), 1e-12)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    offset, following = line - start[owner], np.roll(line, -1, axis=0) - start[owner]
    t0, d0 = (offset * along[owner]).sum(1), (offset * across[owner]).sum(1)
    t1, d1 = (following * along[owner]).sum(1), (following * across[owner]).sum(1)
    total = np.abs(d0) + np.abs(d1)
    crossing = (d0**2 + d1**2) / np.maximum(2 * total, 1e-12)
    return float((np.abs(t1 - t0) * np.where(d0 * d1 >= 0, total / 2, crossing)).sum())


def _area(ring: Points) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _meet(rings: Sequence[Points]) -> bool:
    """Return whether two segments of rings touch or cross, except neighbours at their common corner."""
    start = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    first = np.cumsum([0, *(len(ring) for ring in rings)])
    after = np.concatenate([first[i] + np.roll(np.arange(len(ring)), -1) for i, ring in enumerate(rings)])
    return any(_cross(start, end, i, j, after).any() for i, j in _near(start, end))


def _near(start: Points, end: Points) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return pairs of segments whose bounding boxes overlap."""
    low, high = np.minimum(start, end), np.maximum(start, end)
    order = np.argsort(low[:, 0], kind="stable")
    lefts = low[order, 0]
    for begin in range(0, len(order), _CHUNK):
        rows = order[begin : begin + _CHUNK]
        columns = order[begin : np.searchsorted(lefts, high[rows, 0].max(), side="right")]
        overlap = np.ones((len(rows), len(columns)), np.bool_)
        for axis in (0, 1):
            overlap &= low[rows, axis][:, None] <= high[columns, axis]
            overlap &= high[rows, axis][:, None] >= low[columns, axis]
        i, j = np.nonzero(overlap & (np.arange(len(rows))[:, None] < np.arange(len(columns))))
        yield rows[i], columns[j]


def _cross(
    start: Points, end: Points, i: NDArray[np.intp], j: NDArray[np.intp], after: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Return which pairs of segments meet. Coordinates are multiples of 0.5, so the result is exact."""
    one, other = _side(start[i], end[i], start[j]), _side(start[i], end[i], end[j])
    third, fourth = _side(start[j], end[j], start[i]), _side(start[j], end[j], end[i])
    meets = (one * other <= 0) & (third * fourth <= 0)
    neighbours = (after[i] == j) | (after[j] == i)
    # Neighbours share a corner; they meet elsewhere only if one lies on the other.
    back = (one == 0) & (other == 0) & (((end[i] - start[i]) * (end[j] - start[j])).sum(1) < 0)
    return np.asarray(np.where(neighbours, back, meets), np.bool_)


def _side(a: Points, b: Points, c: Points) -> NDArray[np.float64]:
    """Return the side of the lines from a to b on which the points c lie, as a sign."""
    return np.asarray(np.sign((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]), np.float64)
