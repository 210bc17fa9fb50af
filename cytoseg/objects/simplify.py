"""Simplifying outlines to few of their corners within a limit of area and distance."""

from collections import Counter
from collections.abc import Container, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cytoseg.labels.outlines import Polygon

MIN_IOU = 0.98
"""The area between an outline and its simplification is at most 1 minus this, as a fraction of the object."""

REACH_PX = 1.5
"""No part of an outline is further from the line that replaces it, so that thin tails stay."""

_MIN_CORNERS = 4
_SHARE = 4
"""At most one corner in this many is dropped before all others are measured again."""

_CHUNK = 256

Points = NDArray[np.float64]
"""(N, 2) corners, x and y in pixels, closed implicitly."""


def simplified(polygons: Sequence[Polygon]) -> list[list[Points]]:
    """Return the outlines of one object with fewer corners, or unchanged if that is not possible.

    Corners are dropped, those that change the area least first, until more would exceed ``MIN_IOU`` or ``REACH_PX``.
    The result is used if no two of its segments meet.

    Args:
        polygons: Polygons of one object, from ``outline``.

    Returns:
        For each polygon its exterior and then its holes, with unchanged orientation; each corner is one of the exact
        outline's, so that coordinates stay whole numbers.

    Source: Visvalingam and Whyatt, Line generalisation by repeated elimination of points, 1993; the area is measured
    against the exact outline, not against the last simplification.
    """
    exact = unsimplified(polygons)
    areas = [[_area(ring) for ring in polygon] for polygon in exact]
    # Each ring may use its share of the area; a small hole cannot vanish.
    share = (1 - MIN_IOU) * sum(map(sum, areas)) / sum(abs(area) for polygon in areas for area in polygon)
    touching = _touching(exact)
    rings = [
        [_reduced(ring, share * abs(area), touching) for ring, area in zip(*pair, strict=True)]
        for pair in zip(exact, areas, strict=True)
    ]
    return exact if _meet([ring for polygon in rings for ring in polygon]) else rings


def unsimplified(polygons: Sequence[Polygon]) -> list[list[Points]]:
    """Return the exact outlines in the form of ``simplified``."""
    return [[ring.astype(np.float64) for ring in (polygon.exterior, *polygon.holes)] for polygon in polygons]


def _touching(polygons: Sequence[Sequence[Points]]) -> set[tuple[float, float]]:
    """Return the corners that several rings share."""
    count = Counter(tuple(corner) for polygon in polygons for ring in polygon for corner in ring.tolist())
    return {corner for corner, rings in count.items() if rings > 1}


def _reduced(ring: Points, max_area_px: float, touching: Container[tuple[float, float]]) -> Points:
    """Drop corners of a ring while the area between it and the rest is at most ``max_area_px`` pixels.

    Corners that it shares with other rings go first, so that rings which touch come apart.
    """
    at = np.arange(len(ring))
    apart = np.array([corner for corner in at if tuple(ring[corner].tolist()) not in touching], np.intp)
    if len(apart) >= _MIN_CORNERS and _between(ring, apart).sum() <= max_area_px:
        at = apart
    area = _between(ring, at)
    while len(at) > _MIN_CORNERS and max_area_px >= 0.5:  # dropping a corner between edges of one pixel costs 0.5
        drop = _cheapest(_without(ring, at) - area - np.roll(area, 1), max_area_px - float(area.sum()))
        if not drop:
            break
        at = np.delete(at, drop[: len(at) - _MIN_CORNERS])
        area = _between(ring, at)
    return ring[at]


def _without(ring: Points, at: NDArray[np.intp]) -> NDArray[np.float64]:
    """Measure for each kept corner the area by the segment that replaces it and its two neighbours."""
    area = np.full(len(at), np.inf)
    for parity in (0, 1):
        dropped = np.arange(parity, len(at) - len(at) % 2, 2)
        kept = np.delete(np.arange(len(at)), dropped)
        # In a ring of odd length two kept corners are neighbours once.
        after = np.flatnonzero(np.isin((kept + 1) % len(at), dropped))
        area[(kept[after] + 1) % len(at)] = _between(ring, at[kept])[after]
    return area


def _cheapest(cost: NDArray[np.float64], room: float) -> list[int]:
    """Choose corners to drop, cheapest first and no two neighbours, while their cost fits into ``room``."""
    chosen: list[int] = []
    blocked = np.zeros(len(cost), np.bool_)
    for corner in np.argsort(cost, kind="stable")[: np.count_nonzero(cost <= room)].tolist():
        if cost[corner] > room or len(chosen) >= max(1, len(cost) // _SHARE):
            break
        if not blocked[corner]:
            chosen.append(corner)
            blocked[[corner - 1, corner, (corner + 1) % len(cost)]] = True
            room -= max(float(cost[corner]), 0.0)
    return chosen


def _between(ring: Points, at: NDArray[np.intp]) -> NDArray[np.float64]:
    """Measure the area between a ring and each segment from one kept corner to the next.

    It is counted twice where the ring turns back, and infinite where the ring is further away than ``REACH_PX``.
    """
    ring, at = np.roll(ring, -at[0], axis=0), at - at[0]
    owner = np.repeat(np.arange(len(at)), np.diff(at, append=len(ring)))
    start = ring[at]
    chord = np.roll(start, -1, axis=0) - start
    length = np.maximum(np.hypot(*chord.T), 1e-12)
    along = chord / length[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    offset, following = ring - start[owner], np.roll(ring, -1, axis=0) - start[owner]
    t0, d0 = (offset * along[owner]).sum(1), (offset * across[owner]).sum(1)
    t1, d1 = (following * along[owner]).sum(1), (following * across[owner]).sum(1)
    total = np.abs(d0) + np.abs(d1)
    crossing = (d0**2 + d1**2) / np.maximum(2 * total, 1e-12)
    area = np.abs(t1 - t0) * np.where(d0 * d1 >= 0, total / 2, crossing)
    area[(np.abs(d0) > REACH_PX) | (t0 < -REACH_PX) | (t0 > length[owner] + REACH_PX)] = np.inf
    return np.asarray(np.add.reduceat(area, at), np.float64)


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
    """Return which pairs of segments meet. Coordinates are whole numbers, so the result is exact."""
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
