"""Change the labels folder all at once: a copy is changed beside it and swapped in."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cytoseg.errors import LabelError
from cytoseg.writing import replaced

WAIT_S = 60.0
"""How long to wait for another process that is changing the folder."""


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Return a copy of a folder to change; it takes the folder's place when the block ends well.

    After any error, Ctrl-C included, the folder is as it was. Who comes while another process changes it waits, so that
    what both have done is kept.

    Args:
        folder: What to change; need not exist yet.

    Yields:
        The copy, on the same disk.

    Raises:
        LabelError: If the disk is full, the place cannot be written, or another process is changing it for long.
    """
    with replaced(folder, error=LabelError, wait_s=WAIT_S) as new:
        if folder.is_dir():
            shutil.copytree(folder, new, dirs_exist_ok=True)
        yield new
