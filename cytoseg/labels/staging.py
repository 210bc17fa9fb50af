"""Change a folder all at once: the new state is made beside it and swapped in."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cytoseg.errors import LabelError


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
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            new, old = Path(temporary) / "new", Path(temporary) / "old"
            if folder.is_dir():
                shutil.copytree(folder, new)
            else:
                new.mkdir()
            yield new
            _swap(folder, new=new, old=old)
    except OSError as error:
        why = error.strerror or error
        raise LabelError(f"{folder}: cannot be written ({why}). Make room or choose another place.") from error


def _swap(folder: Path, *, new: Path, old: Path) -> None:
    try:
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise
