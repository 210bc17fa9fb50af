"""Bit-packed tissue masks: ten thousand slides must fit in memory together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PackedMask:
    """The True positions of a mask, numbered row by row.

    Attributes:
        width: Width of the mask.
        bits: (h, ceil(width / 8)) uint8, the mask's rows, eight positions per byte.
        before: (h + 1,) int64, number of True positions above each row; the last entry is the total.
    """

    width: int
    bits: NDArray[np.uint8]
    before: NDArray[np.int64]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> "PackedMask":
        """Pack an (h, w) bool mask."""
        before = np.concatenate([[0], np.cumsum(np.count_nonzero(mask, axis=1), dtype=np.int64)])
        return cls(mask.shape[1], np.packbits(mask, axis=1), before)

    @property
    def height(self) -> int:
        """Of the mask."""
        return len(self.bits)

    @property
    def count(self) -> int:
        """Number of True positions."""
        return int(self.before[-1])

    def share(self) -> float:
        """Fraction of the mask that is True, 0 to 1."""
        return self.count / (self.height * self.width)

    def nth(self, number: int) -> tuple[int, int]:
        """Return row and column of True position ``number``, counted row by row from 0."""
        row = int(np.searchsorted(self.before, number, side="right")) - 1
        columns = np.flatnonzero(np.unpackbits(self.bits[row], count=self.width))
        return row, int(columns[number - self.before[row]])
