"""Removing half-written files that killed commands left in a run folder."""

import contextlib
import glob
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from cytoseg.errors import CytosegError
from cytoseg.locks import is_claimed, locked
from cytoseg.running import is_process
from cytoseg.writing import REMOVED, clear_leftovers, is_swap, is_temporary, restore_after_kill

_SETTLED_S = 0.2
"""A file younger than this may belong to a process that has not claimed it yet."""
_DEEPEST = 3
"""Levels of folders below a run in which commands write files, such as ``review/corrections/<crop>``."""
_FOLDER = re.compile(r"\.(.+)-[a-z0-9_]{8}")
_FILE = re.compile(r"\.(.+\.\w+)\.[a-z0-9_]{8}|\.(?P<process>\d+)\.(.+\.\w+)")


def sweep(run: Path) -> None:
    """Remove half-written files below a run folder and restore what a kill left renamed.

    Finished rows of slides (``.part``) are kept: prediction resumes from them.

    Args:
        run: The run folder; need not exist.
    """
    with contextlib.suppress(OSError):  # failing to remove a leftover must not fail the command
        for folder in list(_folders(run, _DEEPEST)):
            for path in list(folder.glob(".*")):
                _sweep(path)


def sweep_files(folder: Path, *, of: str | None = None) -> None:
    """Remove half-written files of a folder that a user chose, and locks that no process holds; folders are left alone.

    Args:
        folder: The folder; need not exist.
        of: Name of the file whose leftovers are removed; default all.
    """
    with contextlib.suppress(OSError):
        for path in list(folder.glob(".*")):
            found = _FILE.fullmatch(path.name)
            target = found[1] or found[3] if found else path.name[1:].removesuffix(".lock")
            if not path.is_dir() and of in (None, target):
                _sweep(path)


def sweep_beside(path: Path) -> None:
    """Remove what a killed command left beside its output: temporary files and folders, and a stale lock.

    For outputs that a later command refuses or keeps if they exist, so that it would not write them again.

    Args:
        path: The output; need not exist.
    """
    with contextlib.suppress(OSError):
        for left in list(path.parent.glob(f".{glob.escape(path.name)}[.-]*")):
            if left.is_symlink():
                continue
            if left.name == f".{path.name}.lock":
                _sweep_lock(left)
            elif is_temporary(left.name, of=path.name, mark="-"):
                clear_leftovers(path)
            elif is_temporary(left.name, of=path.name, mark=".") and not _may_live(left, None):
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """List a folder and those below it, without hidden ones and, except at the top, without links."""
    yield folder
    if depth:
        with os.scandir(folder) as entries:
            below = [entry.path for entry in entries if _is_folder(entry, follow=depth == _DEEPEST)]
        for path in below:
            yield from _folders(Path(path), depth - 1)


def _is_folder(entry: os.DirEntry[str], *, follow: bool) -> bool:
    return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=follow)


def _sweep(path: Path) -> None:
    if path.is_symlink():
        return
    if path.is_dir():
        _sweep_folder(path)
    elif path.name.endswith(".lock"):
        _sweep_lock(path)
    elif (found := _FILE.fullmatch(path.name)) and not _may_live(path, found["process"]):
        path.unlink(missing_ok=True)


def _sweep_lock(lock: Path) -> None:
    """Remove a lock file that is no longer held; a holder removes its own."""
    with contextlib.suppress(OSError, CytosegError):
        if not lock.stat().st_size or b" (process " in lock.read_bytes()[:300]:  # otherwise it is another program's
            what = lock.with_name(lock.name[1:].removesuffix(".lock"))
            with locked(what, wait_s=0, error=CytosegError):
                pass


def _sweep_folder(path: Path) -> None:
    if path.name.endswith(f".{REMOVED}"):
        shutil.rmtree(path, ignore_errors=True)
    elif path.name.endswith(".old"):
        restore_after_kill(path.with_name(path.name[1:].removesuffix(".old")))
    elif (found := _FOLDER.fullmatch(path.name)) and is_swap(path):
        clear_leftovers(path.with_name(found[1]))
    elif _FILE.fullmatch(path.name) and not _may_live(path, None):
        shutil.rmtree(path, ignore_errors=True)


def _may_live(path: Path, process: str | None) -> bool:
    """Return whether a process may still be writing a temporary file."""
    if process is not None and is_process(int(process)):
        return True
    try:
        young = time.time() - path.stat().st_mtime < _SETTLED_S
    except OSError:
        return True
    return young or is_claimed(path)
