"""Change the labels folder all at once: a copy is changed beside it and swapped in."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cytoseg.errors import LabelError
from cytoseg.writing import replaced


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give a copy of a folder to change; it takes the folder's place when the block ends well.

    After any error, Ctrl-C included, the folder is as it was.

    Args:
        folder: What to change; need not exist yet.

    Yields:
        The copy, on the same disk.

    Raises:
        LabelError: If the disk is full or the place cannot be written.
    """
    with replaced(folder, error=LabelError) as new:
        if folder.is_dir():
            shutil.copytree(folder, new, dirs_exist_ok=True)
        yield new
