"""Connected components of a class map of any size, strip by strip.

Components are 8-connected: a thin diagonal is one object, and a corner pixel of a jagged outline is not a separate one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

AREA = np.dtype(
    [("class_id", "u1"), ("pixels", "i8"), ("seed", "i8"), ("left", "i4"), ("right", "i4"), ("bottom", "i4")]
)
"""One component: ``seed`` is row times width plus column of its first pixel, which also gives the top; ``right`` and
``bottom`` are exclusive."""

Table = NDArray[Any]
"""(N,) of ``AREA``."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class FoundAreas:
    """All components of a class map.

    Attributes:
        kept: (N,) of ``AREA``, the sufficiently large ones in reading order.
        dropped: (256,) int64, number of too small ones per class.
        dropped_px: (256,) int64, their total area in pixels.
    """

    kept: Table
    dropped: Indices
    dropped_px: Indices


@dataclass(frozen=True)
class _Runs:
    """Runs of one class within a row, by row and column; ``owner`` is their graph node."""

    class_id: Indices
    row: Indices
    start: Indices
    end: Indices
    owner: Indices

    def last_row(self, row: int, owner: Indices) -> "_Runs":
        """Return the runs of a row, renumbered as the row above the next strip."""
        at = self.row == row
        return _Runs(self.class_id[at], np.full(at.sum(), -1), self.start[at], self.end[at], owner[at])


def connected_areas(
    strips: Iterable[NDArray[np.uint8]], *, width: int, wanted: NDArray[np.bool_], least_px: int, line_px: int
) -> FoundAreas:
    """Find the connected components of the wanted classes.

    Memory holds one strip, the components that reach its lower edge, and the table of results.

    Args:
        strips: (h, W) uint8 class ids from top to bottom, of any height.
        width: W.
        wanted: (256,) bool by class id.
        least_px: Smaller components are dropped and counted.
        line_px: Line height of the reading order: lines from top to bottom by a component's first row, left to right
            within a line.

    Returns:
        The components.
    """
    finder = _Finder(width, wanted, least_px)
    for strip in strips:
        finder.add(strip)
    finder.keep(finder.open)
    kept = np.concatenate([np.empty(0, AREA), *finder.kept])
    top = kept["seed"] // width
    order = np.lexsort((kept["seed"], top, kept["left"], top // line_px))
    return FoundAreas(kept[order], finder.dropped, finder.dropped_px)


class _Finder:
    """Union-find over the runs of a strip and the open components, which may continue below."""

    def __init__(self, width: int, wanted: NDArray[np.bool_], least_px: int) -> None:
        self._width, self._wanted, self._least_px = width, wanted, least_px
        none = np.empty(0, np.int64)
        self._above = _Runs(none, none, none, none, none)
        self._top = 0
        self.open: Table = np.empty(0, AREA)
        self.kept: list[Table] = []
        self.dropped, self.dropped_px = np.zeros(256, np.int64), np.zeros(256, np.int64)

    def add(self, strip: NDArray[np.uint8]) -> None:
        runs = _runs_of(strip, self._wanted, first_owner=len(self.open))
        nodes = np.concatenate([self.open, self._areas(runs)])
        upper, lower = _touching(self._above, runs, height=len(strip), width=self._width)
        count, group = connected_components(
            coo_matrix((np.ones(len(upper), np.bool_), (upper, lower)), shape=(len(nodes), len(nodes))), directed=False
        )
        joined = _joined(nodes, group, count)
        on_edge = runs.row == len(strip) - 1
        is_open = np.zeros(count, np.bool_)
        is_open[group[runs.owner[on_edge]]] = True
        self.keep(joined[~is_open])
        self.open = joined[is_open]
        place = np.cumsum(is_open) - 1
        self._above = runs.last_row(len(strip) - 1, place[group[runs.owner]])
        self._top += len(strip)

    def keep(self, areas: Table) -> None:
        small = areas["pixels"] < self._least_px
        self.dropped += np.bincount(areas["class_id"][small], minlength=256)
        np.add.at(self.dropped_px, areas["class_id"][small], areas["pixels"][small])
        self.kept.append(areas[~small])

    def _areas(self, runs: _Runs) -> Table:
        areas = np.empty(len(runs.row), AREA)
        areas["class_id"], areas["pixels"] = runs.class_id, runs.end - runs.start
        areas["seed"] = (self._top + runs.row) * self._width + runs.start
        areas["left"], areas["right"], areas["bottom"] = runs.start, runs.end, self._top + runs.row + 1
        return areas


def _runs_of(strip: NDArray[np.uint8], wanted: NDArray[np.bool_], *, first_owner: int) -> _Runs:
    begins = np.ones(strip.shape, np.bool_)
    np.not_equal(strip[:, 1:], strip[:, :-1], out=begins[:, 1:])
    first = np.flatnonzero(begins)
    length = np.diff(first, append=strip.size)
    class_id = strip.ravel()[first]
    of_use = wanted[class_id]
    row, start = np.divmod(first[of_use], strip.shape[1])
    owner = first_owner + np.arange(len(row))
    return _Runs(class_id[of_use].astype(np.int64), row, start, start + length[of_use], owner)


def _touching(above: _Runs, runs: _Runs, *, height: int, width: int) -> tuple[Indices, Indices]:
    """Return the owners of all touching pairs of runs of one class in neighbouring rows, including corners."""
    class_id, row = np.concatenate([above.class_id, runs.class_id]), np.concatenate([above.row, runs.row])
    start, end = np.concatenate([above.start, runs.start]), np.concatenate([above.end, runs.end])
    owner = np.concatenate([above.owner, runs.owner])
    order = np.lexsort((start, row, class_id))
    # One number for class, row and column, so that a sorted search finds the neighbours of all runs at once.
    line = (class_id * (height + 1) + row + 1) * (width + 1)
    begins, ends = (line + start)[order], (line + end)[order]
    upper_line = line - (width + 1)
    lowest = np.flatnonzero(row >= 0)
    first = np.searchsorted(ends, (upper_line + start)[lowest], side="left")
    last = np.searchsorted(begins, (upper_line + end)[lowest], side="right")
    count = last - first
    lower = np.repeat(lowest, count)
    offset = np.arange(len(lower)) - np.repeat(np.cumsum(count) - count, count)
    return owner[order[np.repeat(first, count) + offset]], owner[lower]


def _joined(nodes: Table, group: NDArray[np.int32], count: int) -> Table:
    areas = np.zeros(count, AREA)
    areas["class_id"][group] = nodes["class_id"]
    areas["seed"], areas["left"] = np.iinfo(np.int64).max, np.iinfo(np.int32).max
    np.add.at(areas["pixels"], group, nodes["pixels"])
    for name in ("seed", "left"):
        np.minimum.at(areas[name], group, nodes[name])
    for name in ("right", "bottom"):
        np.maximum.at(areas[name], group, nodes[name])
    return areas
