"""Tracing a mask along pixel edges into polygons with holes.

Pixels are connected by edges; those that touch only at a corner are two polygons. So every polygon is valid for GIS
programs, its area equals its number of pixels, and filling it by the pixel-centre rule reproduces the mask.

All corners are found at once: sorted along a grid row, consecutive pairs are the ends of a horizontal edge, and along
a column of a vertical edge. Where two pixels touch at a corner, that corner counts twice.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.int64]
"""(N, 2) corners, x and y in pixels, (0, 0) is the mask's top left corner; the ring is closed implicitly."""


@dataclass(frozen=True, eq=False)
class Polygon:
    """A polygon with holes.

    Attributes:
        exterior: Corners such that the shoelace formula gives a positive area (clockwise on a screen).
        holes: Corners in the opposite direction; rings touch only at single points.
    """

    exterior: Ring
    holes: tuple[Ring, ...]


@dataclass(frozen=True, eq=False)
class _Corners:
    """Corners of all rings: positions, the next corner on the ring, and the other corner at the same position or -1."""

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    after: NDArray[np.int64]
    twin: NDArray[np.int64]


def outline(mask: NDArray[np.bool_]) -> list[Polygon]:
    """Trace a mask along pixel edges.

    Args:
        mask: (H, W) bool.

    Returns:
        One polygon per 4-connected component, from top to bottom; none for an empty mask.
    """
    corners = _corners(mask)
    rings = _rings(corners)
    points = np.stack([corners.x, corners.y], axis=1)
    traced = [points[ring] for ring in rings]
    solid = [_doubled_area(ring) > 0 for ring in traced]
    holes: dict[int, list[Ring]] = {i: [] for i, is_solid in enumerate(solid) if is_solid}
    if len(holes) < len(rings):
        owner = _owners(corners, rings, solid) if len(holes) > 1 else list(holes) * len(rings)
        for i, ring in enumerate(traced):
            if not solid[i]:
                holes[owner[i]].append(ring)
    return [Polygon(traced[i], tuple(found)) for i, found in holes.items()]


def _corners(mask: NDArray[np.bool_]) -> _Corners:
    framed = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.bool_)
    framed[1:-1, 1:-1] = mask
    nw, ne, sw, se = framed[:-1, :-1], framed[:-1, 1:], framed[1:, :-1], framed[1:, 1:]
    crossed = (nw == se) & (ne == sw) & (nw != ne)
    y, x = np.nonzero((nw ^ ne ^ sw ^ se) | crossed)
    if crossed.any():
        count = 1 + crossed[y, x]
        y, x = np.repeat(y, count), np.repeat(x, count)
    same = np.zeros(len(x), np.bool_)
    same[1:] = (x[1:] == x[:-1]) & (y[1:] == y[:-1])
    number = np.arange(len(x))
    twin = np.full(len(x), -1)
    twin[same], twin[np.roll(same, -1)] = number[same] - 1, number[same]
    # Of two corners at one position the first ends the edge from the left. It takes the edge from above if the pixel
    # between these two is in the mask, otherwise the edge from below, so that each ring stays with its own pixel.
    rank = np.where((twin >= 0) & ne[y, x], ~same, same)
    across, down = number ^ 1, np.empty_like(number)
    order = np.lexsort((rank, y, x))
    down[order] = order[number ^ 1]
    # The mask lies to the right of the direction of travel: below an eastward edge, above a westward one.
    left = np.minimum(number, across)
    eastwards = se[y[left], x[left]]
    starts = eastwards == (number == left)
    return _Corners(x, y, np.where(starts, across, down), twin)


def _rings(corners: _Corners) -> list[list[int]]:
    """Follow the corners; a ring that would touch itself at a corner is split there."""
    after, twin = corners.after.tolist(), corners.twin.tolist()
    place = [-1] * len(after)
    rings = []
    for first in range(len(after)):
        path: list[int] = []
        i = first
        while place[i] < 0:
            # Its recorded position on the path may be stale: the path was cut, or it is another one.
            cut = place[twin[i]] if twin[i] >= 0 else -1
            if 0 <= cut < len(path) and path[cut] == twin[i]:
                rings.append(path[cut:])
                del path[cut:]
            place[i] = len(path)
            path.append(i)
            i = after[i]
        if path:
            rings.append(path)
    return rings


def _doubled_area(ring: Ring) -> int:
    x, y = ring[:, 0], ring[:, 1]
    return int(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def _owners(corners: _Corners, rings: list[list[int]], solid: list[bool]) -> list[int]:
    """Return the exterior of each ring: from a hole's left edge search left for another ring."""
    ends = [(ring, np.roll(ring, -1)) for ring in rings]
    start, end = (np.concatenate([pair[k] for pair in ends]) for k in (0, 1))
    ring_of = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    upright = corners.x[start] == corners.x[end]
    start, end, ring_of = start[upright], end[upright], ring_of[upright]
    top, height = np.minimum(corners.y[start], corners.y[end]), np.abs(corners.y[start] - corners.y[end])
    # One entry per pixel side, sorted by row and column.
    row = np.repeat(top - np.cumsum(height) + height, height) + np.arange(height.sum())
    column, ring_of = np.repeat(corners.x[start], height), np.repeat(ring_of, height)
    order = np.lexsort((column, row))
    column, ring_of = column[order], ring_of[order]
    leftmost: dict[int, int] = {}
    for k in np.argsort(column, kind="stable")[::-1].tolist():
        leftmost[int(ring_of[k])] = k
    owner = list(range(len(rings)))
    # A hole's left neighbour starts further left, so its owner is already known.
    for i in sorted(leftmost, key=lambda ring: int(column[leftmost[ring]])):
        if not solid[i]:
            owner[i] = owner[int(ring_of[leftmost[i] - 1])]
    return owner
