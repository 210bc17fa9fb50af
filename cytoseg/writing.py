"""Writing whole files and folders or none: into a temporary place beside the target, then renamed."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cytoseg.errors import CytosegError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: into a temporary file beside it, then renamed.

    Raises:
        OSError: If the disk is full or the folder cannot be written; the old file is then still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path with the same suffixes, and rename it to ``path`` if the block ends well.

    For writers that want a file name (images, figures, tables). On any exception the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replaced(folder: Path, *, error: type[CytosegError]) -> Iterator[Path]:
    """Give an empty folder that takes the place of ``folder`` when the block ends well.

    After any error, Ctrl-C included, the folder is as it was and the empty one is gone.

    Args:
        folder: What to replace; need not exist yet.
        error: Raised in place of an OSError, so that the user reads one line.

    Yields:
        The empty folder, on the same disk.

    Raises:
        CytosegError: Of the class ``error``, if the disk is full or the place cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            new, old = Path(temporary) / "new", Path(temporary) / "old"
            new.mkdir()
            yield new
            _swap(folder, new=new, old=old)
    except OSError as problem:
        why = problem.strerror or problem
        raise error(
            f"{folder}: cannot be written ({why}); what was there is unchanged. Make room or choose another folder."
        ) from problem


def remove_leftovers(folder: Path, pattern: str) -> None:
    """Remove what a kill in the middle of ``replaced`` has left; nobody else may be writing there.

    Args:
        folder: Where the replaced folders lie; need not exist.
        pattern: Of their names, such as ``checkpoint-*``.
    """
    for leftover in folder.glob(f".{pattern}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _swap(folder: Path, *, new: Path, old: Path) -> None:
    try:
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise
