"""File locks: one process at a time, with the name of the holder."""

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from cytoseg.errors import CytosegError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment] # None marks a system without it

_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
"""Error numbers of file systems without locks: some mounts of Lustre, NFS and FUSE."""

_LONGEST = 200
"""Most characters quoted of a lock file, which may contain anything."""


@contextlib.contextmanager
def locked(path: Path, *, wait_s: float, error: type[CytosegError]) -> Iterator[None]:
    """Hold the advisory lock of a file or folder during the block.

    The lock file lies beside it and names its holder; the parent folder is created. A process that dies, however it
    dies, releases the lock. On a file system without locks the lock is a file that exists; the next process on the same
    machine removes that of one that died.

    Args:
        path: File or folder to lock; need not exist.
        wait_s: How long to wait for others.
        error: Class to raise if they take longer.

    Raises:
        CytosegError: Of the class ``error``, naming who holds the lock.
        OSError: If the lock file cannot be created.
    """
    held = _acquired(path, wait_s=wait_s, error=error)
    lock = Path(held.lock_file)
    try:
        if isinstance(held, FileLock):
            with contextlib.suppress(OSError):  # a lock without a holder's name still locks
                lock.write_text(f"{this_process('since')}\n", encoding="utf-8")
        yield
    finally:
        try:
            if isinstance(held, FileLock):
                with contextlib.suppress(OSError):
                    lock.unlink()
        finally:  # a signal may come while the file is removed
            held.release()


def _acquired(path: Path, *, wait_s: float, error: type[CytosegError]) -> BaseFileLock:
    lock = path.with_name(f".{path.name}.lock")
    held = FileLock(lock, fallback_to_soft=False)
    try:
        held.acquire(timeout=wait_s)
        return held
    except Timeout:
        raise error(f"{path}: {_holder(lock)} is writing it. Wait until it ends, or stop it.") from None
    except OSError as problem:
        if problem.errno not in _WITHOUT_LOCKS:
            raise
    with contextlib.suppress(OSError):
        if lock.stat().st_size:  # a holder got it while the server of locks was up
            raise error(f"{path}: {_holder(lock)} is writing it. Wait until it ends, or stop it.")
        lock.unlink()
    soft = SoftFileLock(path.with_name(f".{path.name}.soft-lock"))
    try:
        soft.acquire(timeout=wait_s)
        return soft
    except Timeout:
        raise error(
            f"{path}: another process is writing it. Wait until it ends, or stop it; if it died on another machine, "
            f"remove {Path(soft.lock_file).name} (this file system has no locks)."
        ) from None


def this_process(moment: str) -> str:
    """Name this process as messages to other processes do.

    Args:
        moment: The word before the current time, such as ``since``.

    Returns:
        Such as ``cytoseg label-import (process 12 on lab, since 2026-01-01 12:00:00 UTC)``.
    """
    return f"{_command()} (process {os.getpid()} on {socket.gethostname()}, {moment} {_now()} UTC)"


def claim(descriptor: int) -> None:
    """Mark an open file or folder as being written by this process until it is closed; see ``is_claimed``.

    Does nothing on a file system without locks.
    """
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def claimed_folder(folder: Path) -> Iterator[None]:
    """Claim a folder during the block; does nothing on Windows, where folders cannot be opened.

    Raises:
        OSError: If it does not exist.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        claim(descriptor)
        yield
    finally:
        os.close(descriptor)


def is_claimed(path: Path) -> bool:
    """Return whether a live process on any machine claims a file or folder; True if unknown."""
    if fcntl is None:
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _command() -> str:
    """Return the command of this process, such as ``cytoseg label-import``."""
    program = Path(sys.argv[0])
    if (program.parent.name, program.name) == ("review", "serve.py"):  # as Streamlit is started by it
        return "cytoseg review"
    if "cytoseg" not in (program.stem, program.parent.name):
        return program.name or "python"
    return " ".join(["cytoseg", *(text for text in sys.argv[1:2] if not text.startswith("-"))])


def _holder(lock: Path) -> str:
    try:
        name = lock.read_bytes()[:_LONGEST].decode(errors="replace").strip()
    except OSError:
        name = ""
    return name if name and name.isprintable() else "another process"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
