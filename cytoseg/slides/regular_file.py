"""Distinguishing regular files from pipes and devices, and responding disks from dead ones."""

import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from cytoseg.errors import CytosegError, SlideError

Value = TypeVar("Value")

LIMIT_S = 30.0
"""Time for a disk or network share to answer; a sleeping one needs about 10 s."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_unless_file(path: Path) -> str:
    """Describe a path that is not a regular file, symlinks followed; empty for a file.

    Args:
        path: Need not be readable.

    Raises:
        OSError: If it does not exist or access is denied.
        ValueError: If it is not a valid path.
    """
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return ""
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "no file")


def irregular_file_of_database(database: Path) -> str:
    """Name the first file that SQLite opens with a database and that is a link or not a regular file; empty if none is.

    SQLite itself would block on a pipe.

    Args:
        database: The database; only the files beside it are checked.

    Raises:
        OSError: If access is denied.
    """
    parts = (database.with_name(f"{database.name}-{part}") for part in ("journal", "wal", "shm"))
    return next((path.name for path in parts if path.is_symlink() or (path.exists() and not path.is_file())), "")


def within_time(path: Path, access: Callable[[], Value], *, error_class: type[CytosegError] = SlideError) -> Value:
    """Access a path with a time limit: on a dead network share even its status never arrives.

    Args:
        path: The file or folder, named in the message.
        access: Runs in a thread that does not keep the program from exiting.
        error_class: Class of the error.

    Raises:
        CytosegError: Of the class ``error_class``, if there is no answer within ``LIMIT_S``.
    """
    answer: Future[Value] = Future()

    def run() -> None:
        try:
            answer.set_result(access())
        except BaseException as error:  # handed on to the caller
            answer.set_exception(error)

    threading.Thread(target=run, name="access", daemon=True).start()
    try:
        return answer.result(LIMIT_S)
    except TimeoutError as error:
        if answer.done():  # an error of ``access``
            raise
        raise error_class(f"{path}: did not answer within {LIMIT_S:.0f} s. Mount its disk or share again.") from error


def check_disk_answers(path: Path, *, error_class: type[CytosegError]) -> None:
    """Check, before any work, that the disk of a file or folder answers; it need not exist.

    Raises:
        CytosegError: Of the class ``error_class``, if there is no answer within ``LIMIT_S``.
    """
    within_time(path, lambda: os.path.exists(path), error_class=error_class)
