"""Building the instance map from runs on disk, and counting contacts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.geometry import Size
from cytoseg.maps.map_spool import strip_rows
from cytoseg.objects.padded_mask import padded

LINE_ROWS = 256
"""Rows per file of runs."""
_RUN = np.dtype([("start", "u4"), ("end", "u4"), ("row", "u4"), ("number", "u4")])
_WAITING_RUNS = 2**16
_PIECE_RUNS = 4096
_PIECE_ROWS = 32
_HALF, _LOWER = np.uint64(32), np.uint64(2**32 - 1)

Ids = NDArray[np.uint32]


class Painter:
    """Collects objects in any order and returns the map of their ids.

    Args:
        folder: Folder of the runs, one file per 256 rows, removed as they are painted. Leftovers of a kill are removed
            at the start.
        size: Size of the map.
    """

    def __init__(self, folder: Path, *, size: Size) -> None:
        self._folder, self._size = folder, size
        self._waiting: dict[int, list[NDArray[Any]]] = {}
        self._count = 0
        for leftover in folder.glob("instances-*.runs"):
            leftover.unlink()

    def add(self, number: int, mask: NDArray[np.bool_], *, x: int, y: int) -> None:
        """Add one object.

        Args:
            number: Its id, 1 or more.
            mask: (h, w) bool.
            x: Left edge of the mask in the map.
            y: Upper edge of the mask in the map.

        Raises:
            OSError: If the disk is full.
        """
        inside = padded(mask)[1:-1]
        # Starts and ends alternate in each row.
        rows, columns = np.nonzero(inside[:, 1:] != inside[:, :-1])
        rows, starts, ends = rows[::2], columns[::2], columns[1::2]
        runs = np.empty(len(rows), _RUN)
        runs["start"], runs["end"], runs["row"], runs["number"] = x + starts, x + ends, y + rows, number
        cuts = np.flatnonzero(np.diff(runs["row"] // LINE_ROWS)) + 1
        for piece in np.split(runs, cuts):
            self._waiting.setdefault(int(piece["row"][0]) // LINE_ROWS, []).append(piece)
        self._count += len(runs)
        if self._count > _WAITING_RUNS:
            self._flush()

    def strips(self) -> Iterator[Ids]:
        """Yield the map from top to bottom, (h, W) uint32 each; 0 for no object."""
        self._flush()
        rows = strip_rows(self._size.width)
        for line in range(0, self._size.height, LINE_ROWS):
            below = min(line + LINE_ROWS, self._size.height)
            path = self._path(line // LINE_ROWS)
            for top in range(line, below, rows):
                yield self._painted(path, top=top, below=min(top + rows, below))
            path.unlink(missing_ok=True)

    def _painted(self, path: Path, *, top: int, below: int) -> Ids:
        strip = np.zeros((below - top, self._size.width), np.uint32)
        if path.exists():
            _paint(strip, path, top=top)
        return strip

    def _flush(self) -> None:
        for number, pieces in self._waiting.items():
            with self._path(number).open("ab") as file:
                file.write(np.concatenate(pieces).tobytes())
        self._waiting, self._count = {}, 0

    def _path(self, strip: int) -> Path:
        return self._folder / f"instances-{strip}.runs"


def _paint(strip: Ids, path: Path, *, top: int) -> None:
    with path.open("rb") as file:
        while len(runs := np.fromfile(file, _RUN, _PIECE_RUNS)):
            inside = (runs["row"] >= top) & (runs["row"] < top + len(strip))
            for start, end, row, number in runs[inside].tolist():
                strip[row - top, start:end] = number


class Contacts:
    """Counts pixel edges between objects of two kinds, strip by strip.

    Args:
        first: (N + 1,) bool by instance id, objects of the first kind, such as nuclei.
        second: The same for the second kind, such as cytoplasm.
    """

    def __init__(self, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> None:
        self._first, self._second = first, second
        # One number per pair, the first id in the upper half; repeated for every contact.
        self._pairs: list[NDArray[np.uint64]] = []
        self._edges: list[NDArray[np.int64]] = []
        self._above: Ids | None = None

    def watch(self, strips: Iterator[Ids]) -> Iterator[Ids]:
        """Pass strips of a map through, from top to bottom, and count contacts."""
        for strip in strips:
            for top in range(0, len(strip), _PIECE_ROWS):
                self._add(strip[top : top + _PIECE_ROWS])
            yield strip
            # Drop the reference to the old strip before the next one is made.
            del strip

    def partners(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return for each object of the first kind the object of the second kind with the longest shared border.

        Returns:
            (N + 1,) int64 by instance id; the smaller id on a tie, 0 for none. And (N + 1,) bool: borders on
            several.
        """
        pairs, met = np.unique(np.concatenate([np.empty(0, np.uint64), *self._pairs]), return_inverse=True)
        edges = np.zeros(len(pairs), np.int64)
        np.add.at(edges, met, np.concatenate([np.empty(0, np.int64), *self._edges]))
        one, other = (pairs >> _HALF).astype(np.int64), (pairs & _LOWER).astype(np.int64)
        # The last assignment wins: the most edges, then the smallest id.
        order = np.lexsort((-other, edges, one))
        partner = np.zeros(len(self._first), np.int64)
        partner[one[order]] = other[order]
        return partner, np.bincount(one, minlength=len(self._first)) > 1

    def _add(self, rows: Ids) -> None:
        if self._above is not None:
            self._count(self._above, rows[:1])
        self._count(rows[:-1], rows[1:])
        self._count(rows[:, :-1], rows[:, 1:])
        self._above = rows[-1:].copy()

    def _count(self, a: Ids, b: Ids) -> None:
        border = (a != b) & (a != 0) & (b != 0)
        one, other = np.concatenate([a[border], b[border]]), np.concatenate([b[border], a[border]])
        wanted = self._first[one] & self._second[other]
        pairs, edges = np.unique(one[wanted].astype(np.uint64) << _HALF | other[wanted], return_counts=True)
        self._pairs.append(pairs)
        self._edges.append(edges)
