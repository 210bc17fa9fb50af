"""Atomic changes of the labels folder: edit a copy and swap it in."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cytoseg.errors import LabelError
from cytoseg.writing import replaced

WAIT_S = 60.0
"""Seconds to wait for another process that is changing the folder."""


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Yield a copy of a folder to change, which replaces the folder when the block succeeds.

    After any error, including Ctrl-C, the folder is unchanged. A second process waits for the first, so that both
    changes are kept.

    Args:
        folder: What to change; need not exist yet.

    Yields:
        The copy, on the same disk.

    Raises:
        LabelError: If the disk is full, the folder cannot be written, or another process keeps it locked.
    """
    with replaced(folder, error=LabelError, wait_s=WAIT_S) as new:
        if folder.is_dir():
            shutil.copytree(folder, new, dirs_exist_ok=True)
        yield new
