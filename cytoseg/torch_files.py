"""Reading .pt and .pth files of other programs: tensors only, within a size limit."""

import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cytoseg.errors import CheckpointError
from cytoseg.interrupts import errors_as_interrupt
from cytoseg.limits import how_to_raise, limit

_SIZE = "CYTOSEG_MAX_WEIGHTS_MB"
_MAX_NAMES_BYTES = 1_000_000
"""Most bytes of a pickle of names and shapes, some 8,000 tensors: torch reads one by one in Python, 2 s for these."""
_MAX_READS = 500_000
"""The same for a file of torch before 1.6, where a reader asks once or more for each mark of the pickle."""
_ZIP = b"PK\x03\x04"
"""What torch tells a zip archive by; zipfile also takes a file that only ends as one."""

_TOO_MANY = "lists more values than are read, some 8,000 tensors. Save only the weights of the network."


def read_torch_file(path: Path, *, advice: str) -> object:
    """Read what a file holds; code in it is never run.

    Args:
        path: A file written by ``torch.save``.
        advice: What to do about one that cannot be read, as a sentence.

    Raises:
        CheckpointError: If it is missing, no regular file, holds anything but plain values and tensors, or takes more
            than CYTOSEG_MAX_WEIGHTS_MB: packed, unpacked, or by its shapes, as a tensor may repeat one value.
    """
    try:
        if not path.is_file():
            raise CheckpointError(f"{path}: there is no such file. {advice}")
        _check_size(path, max(path.stat().st_size, _unpacked_bytes(path)))
        with errors_as_interrupt(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of another pickle protocol, which is read or refused anyway
            found = _loaded(path)
    except CheckpointError:
        raise
    except Exception as error:  # torch's reader ends in any error on a file in another format
        raise CheckpointError(
            f"{path}: not a plain file of tensors; nothing in it was run ({type(error).__name__}). {advice}"
        ) from error
    if isinstance(found, Mapping):
        tensors = [value for value in found.values() if isinstance(value, Tensor)]
        if any(tensor.is_meta for tensor in tensors):
            raise CheckpointError(f"{path}: holds tensors without values. {advice}")
        _check_size(path, sum(tensor.numel() * tensor.element_size() for tensor in tensors))
    return found


def _loaded(path: Path) -> object:
    with _FewReads(io.FileIO(path)) as file:
        if file.peek(len(_ZIP))[: len(_ZIP)] != _ZIP:
            return torch.load(file, weights_only=True, map_location="cpu")
    with zipfile.ZipFile(path) as archive:  # torch's reader takes names in any case
        names = max((m.file_size for m in archive.infolist() if m.filename.lower().endswith("data.pkl")), default=0)
    if names > _MAX_NAMES_BYTES:
        raise CheckpointError(f"{path}: {_TOO_MANY}")
    return torch.load(path, weights_only=True, map_location="cpu")


class _FewReads(io.BufferedReader):
    """A file that gives up when it is asked for more than its share."""

    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does.

        Raises:
            CheckpointError: At the read after the last one allowed.
        """
        self._reads += 1
        if self._reads > _MAX_READS:
            raise CheckpointError(f"{self.name}: {_TOO_MANY}")
        return super().read(size)


def _check_size(path: Path, size: int) -> None:
    if size > limit(_SIZE) * 1_000_000:
        raise CheckpointError(f"{path}: {size / 1e6:,.0f} MB of weights. {how_to_raise(_SIZE)}")


def _unpacked_bytes(path: Path) -> int:
    """Add up what a zip archive says that its members take; torch would unpack compressed ones."""
    if not zipfile.is_zipfile(path):
        return 0
    with zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())
