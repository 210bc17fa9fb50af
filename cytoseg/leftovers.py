"""Removing half-written files that killed commands left in a run folder."""

import contextlib
import re
import shutil
import time
from pathlib import Path

from cytoseg.errors import CytosegError
from cytoseg.locks import is_claimed, locked
from cytoseg.running import is_process
from cytoseg.writing import REMOVED, clear_leftovers, is_swap, put_back

_SETTLED_S = 0.2
"""A file younger than this may belong to a process that has not claimed it yet."""
_FOLDER = re.compile(r"\.(.+)-[a-z0-9_]{8}")
_FILE = re.compile(r"\.(.+\.\w+)\.[a-z0-9_]{8}|\.(?P<process>\d+)\.(.+\.\w+)")


def sweep(run: Path) -> None:
    """Remove half-written files below a run folder and restore what a kill left renamed.

    Finished rows of slides (``.part``) are kept: prediction resumes from them.

    Args:
        run: The run folder; need not exist.
    """
    with contextlib.suppress(OSError):  # failing to remove a leftover must not fail the command
        for folder in [run, *(path for path in run.iterdir() if path.is_dir() and not path.name.startswith("."))]:
            for path in list(folder.glob(".*")):
                _sweep(path)


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
        put_back(path.with_name(path.name[1:].removesuffix(".old")))
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
