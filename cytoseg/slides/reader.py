"""Base class of slide and map readers: context manager, pickled as a path."""

from pathlib import Path
from typing import Self


class Reader:
    """A file open for reading.

    It is pickled as its path and reopened when unpickled, so it can be sent to a DataLoader worker.

    Attributes:
        path: The file.
    """

    path: Path

    def close(self) -> None:
        """Close the file; does nothing if none is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self.path,)
