"""The rows of the pixel table: in memory, or in a file where they would not fit."""

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

from cytoseg.devices import release_memory
from cytoseg.errors import RecipeError
from cytoseg.memory import available_bytes, highest_bytes, resident_bytes

BLOCK_ROWS = 4096
BLOCK_VALUES = 2**23
"""Most rows and most values of a block: wide rows come in fewer, as work on a block copies it several times."""
SPARE = 1.05
"""What is measured once is taken so many times: allocators leave gaps, and not all crops are alike."""


class DiskRows:
    """(P, D) float16 rows in a file, of which only what is asked for comes into memory.

    The file has no name: the system removes it with this object, or with the process however that ends. Rows are read
    one by one: the pages of a memory map would count as memory of the process, and are slower.

    Args:
        folder: Where the file lies; made if it is not there.
        rows: P.
        columns: D.

    Raises:
        RecipeError: If the disk has not enough room, or the folder cannot be written.
    """

    def __init__(self, folder: Path, rows: int, columns: int) -> None:
        self.shape = torch.Size((rows, columns))
        self._folder, self._row_bytes = folder, 2 * columns
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed with the object
            weakref.finalize(self, self._file.close)
            if rows and hasattr(os, "posix_fallocate"):  # where there is none, a full disk shows while writing
                os.posix_fallocate(self._file.fileno(), 0, rows * self._row_bytes)
        except OSError as problem:
            raise self._refused(problem) from problem

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Tensor) -> Tensor:
        """Read rows by number: int64 of any shape gives float16 of that shape with D behind."""
        found = torch.empty(index.numel(), self.shape[1], dtype=torch.float16)
        for row, values in zip(index.flatten().tolist(), found.numpy(), strict=True):
            self._file.seek(row * self._row_bytes)
            if self._file.readinto(values) != self._row_bytes:
                raise IndexError(f"row {row} of {len(self)}")
        return found.view(*index.shape, self.shape[1])

    def __setitem__(self, place: slice, values: Tensor) -> None:
        """Write rows one after the other from ``place.start`` on."""
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
    """Go through all rows in blocks, the same ones wherever they lie."""
    at_once = max(1, min(BLOCK_ROWS, BLOCK_VALUES // max(1, rows.shape[1])))
    for numbers in torch.split(torch.arange(len(rows)), at_once):
        if len(numbers):
            yield rows[numbers]


def _nothing(_rows: int, _columns: int) -> int:
    return 0


@dataclass(frozen=True)
class Room:
    """How much memory the work may take, and where the rows lie if it is too little for them.

    Attributes:
        folder: For the file; one that can hold it.
        ceiling_gb: Most memory of the process in GB, while features are gathered and interpreters trained; None leaves
            half of what is free on the machine to the rows.
        training: Tells from P and D how many bytes the training takes beside the rows.
        trained: What is trained, for messages, such as ``10 interpreters``.
    """

    folder: Path = Path()
    ceiling_gb: float | None = None
    training: Callable[[int, int], int] = _nothing
    trained: str = "the interpreters"


HALF_OF_WHAT_IS_FREE = Room()
"""No ceiling; rows that need more than that lie in the current folder, without a name."""


def make_rows(rows: int, columns: int, room: Room, *, largest: str, passing: int) -> Tensor | DiskRows:
    """Make the rows, still to be filled; to be called when the largest crop's features have been computed.

    Args:
        rows: P.
        columns: D.
        room: The memory there is.
        largest: Size of the largest crop, for messages.
        passing: Bytes held now that training will not find: those of the crop's features.

    Raises:
        RecipeError: If the ceiling is too low even with the rows on disk, or this system does not tell how much memory
            a process holds; or if the disk is full.
    """
    table = 2 * rows * columns
    if room.ceiling_gb is None:
        free = available_bytes()
        in_memory = free is not None and table <= free // 2
    else:
        least = _least_bytes(room.training(rows, columns) - passing)
        in_memory = least + table <= room.ceiling_gb * 1e9
        if least > room.ceiling_gb * 1e9:
            need = math.ceil(SPARE * least / 1e8) / 10  # the same command may take a little more the next time
            raise RecipeError(
                f"features.memory_gb: {room.ceiling_gb:g} is too little: the largest crop ({largest}) and "
                f"{room.trained} need {need:g}. Use features.memory_gb={need:g}, or fewer taps, timesteps or members."
            )
    return torch.empty(rows, columns, dtype=torch.float16) if in_memory else DiskRows(room.folder, rows, columns)


def _least_bytes(more: int) -> float:
    """Tell the peak with the rows on disk: that of the largest crop's features, or what is held and the training."""
    highest = highest_bytes()
    release_memory()
    held = resident_bytes()
    if highest is None or held is None:
        raise memory_unknown()
    return SPARE * max(highest, held + more)


def memory_unknown() -> RecipeError:
    """Make the error of a ceiling that cannot be kept."""
    return RecipeError("features.memory_gb: this system does not report the memory of a process. Remove the setting.")
