"""Rows of the pixel table, in memory or on disk."""

import errno
import math
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cytoseg.allocator import release_memory
from cytoseg.errors import RecipeError
from cytoseg.memory_use import available_bytes, highest_bytes, resident_bytes

BLOCK_ROWS = 4096
BLOCK_VALUES = 2**23
"""Most rows and most values of a block: fewer for wide rows, because processing copies a block several times."""
SPARE = 1.05
"""Safety factor of measured memory: allocators fragment, and crops differ."""


class DiskRows:
    """(P, D) float16 rows in a file, loaded on demand.

    The file is anonymous: the system removes it with this object or process. Rows are read one by one: the pages of a
    memory map would count as memory of the process, and are slower.

    Args:
        folder: Folder of the file; created if missing.
        rows: P.
        columns: D.

    Raises:
        RecipeError: If the disk is too full, or the folder cannot be written.
    """

    def __init__(self, folder: Path, rows: int, columns: int) -> None:
        self.shape = torch.Size((rows, columns))
        self._folder, self._row_bytes = folder, 2 * columns
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed with the object
            weakref.finalize(self, self._file.close)
            if rows and hasattr(os, "posix_fallocate"):  # without it, a full disk is detected while writing
                os.posix_fallocate(self._file.fileno(), 0, rows * self._row_bytes)
        except OSError as problem:
            raise self._refused(problem) from problem

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Tensor) -> Tensor:
        """Read rows by index: int64 of any shape gives float16 of that shape + (D,)."""
        found = torch.empty(index.numel(), self.shape[1], dtype=torch.float16)
        for row, values in zip(index.flatten().tolist(), found.numpy(), strict=True):
            self._file.seek(row * self._row_bytes)
            if self._file.readinto(values) != self._row_bytes:
                raise IndexError(f"row {row} of {len(self)}")
        return found.view(*index.shape, self.shape[1])

    def __setitem__(self, place: slice, values: Tensor) -> None:
        """Write consecutive rows from ``place.start`` on."""
        data = values.contiguous().numpy().data
        try:
            self._file.seek(place.start * self._row_bytes)
            if self._file.write(data) != data.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as problem:
            raise self._refused(problem) from problem

    def _refused(self, problem: OSError) -> RecipeError:
        need = len(self) * self._row_bytes / 1e9
        return RecipeError(
            f"{self._folder}: the features of {len(self):,} pixels need {need:.1f} GB on this disk "
            f"({problem.strerror or problem}). Free some space, choose another folder, or raise features.memory_gb."
        )


def row_blocks(rows: Tensor | DiskRows) -> Iterator[Tensor]:
    """Yield all rows in blocks, (B, D) float16 each, identical in memory and on disk."""
    at_once = max(1, min(BLOCK_ROWS, BLOCK_VALUES // max(1, rows.shape[1])))
    for numbers in torch.split(torch.arange(len(rows)), at_once):
        if len(numbers):
            yield rows[numbers]


def _nothing(_rows: int, _columns: int) -> int:
    return 0


@dataclass(frozen=True)
class MemoryLimits:
    """Memory limits, and the folder for rows that do not fit.

    Attributes:
        folder: Folder of the file, with enough space.
        ceiling_gb: Most memory of the process in GB, for gathering features and training; None gives the rows
            half of the free memory.
        training: Returns the bytes of training beside the rows, from P and D.
        trained: Object of training for messages, such as ``10 interpreters``.
    """

    folder: Path = Path()
    ceiling_gb: float | None = None
    training: Callable[[int, int], int] = _nothing
    trained: str = "the interpreters"


HALF_OF_WHAT_IS_FREE = MemoryLimits()
"""No ceiling; rows that do not fit are stored in an anonymous file in the current folder."""


def make_rows(rows: int, columns: int, room: MemoryLimits, *, largest: str, passing: int) -> Tensor | DiskRows:
    """Allocate empty rows; call it once the largest crop's features have been computed.

    Args:
        rows: P.
        columns: D.
        room: Memory limits.
        largest: Size of the largest crop, for messages.
        passing: Bytes held now but freed before training: those of the crop's features.

    Raises:
        RecipeError: If the ceiling is too low even with rows on disk, the system does not report process memory, or the
            disk is full.
    """
    table = 2 * rows * columns
    if room.ceiling_gb is None:
        free = available_bytes()
        in_memory = free is not None and table <= free // 2
    else:
        least = _least_bytes(room.training(rows, columns) - passing)
        in_memory = least + table <= room.ceiling_gb * 1e9
        if least > room.ceiling_gb * 1e9:
            need = math.ceil(SPARE * least / 1e8) / 10  # the same command may take a little more next time
            raise RecipeError(
                f"features.memory_gb: {room.ceiling_gb:g} is too little: the largest crop ({largest}) and "
                f"{room.trained} need {need:g}. Use features.memory_gb={need:g}, or fewer taps, timesteps or members."
            )
    return torch.empty(rows, columns, dtype=torch.float16) if in_memory else DiskRows(room.folder, rows, columns)


def _least_bytes(more: int) -> float:
    """Return the peak with rows on disk: of the largest crop's features, or of held memory plus training."""
    highest = highest_bytes()
    release_memory()
    held = resident_bytes()
    if highest is None or held is None:
        raise memory_unknown()
    return SPARE * max(highest, held + more)


def memory_unknown() -> RecipeError:
    """Make the error for a ceiling that cannot be enforced."""
    return RecipeError("features.memory_gb: this system does not report the memory of a process. Remove the setting.")
