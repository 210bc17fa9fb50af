"""What the readers of slides and maps have in common: they close at the end of a block and pickle as their path."""

from pathlib import Path
from typing import Self


class Reader:
    """A file that is open for reading.

    It pickles as its path and is opened again on the other side, so it may be sent to a DataLoader worker.

    Attributes:
        path: The file.
    """

    path: Path

    def close(self) -> None:
        """Release the file; a reader that holds none open has nothing to do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self.path,)
