"""One process at a time: locks beside what is changed, which name their holder."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from cytoseg.errors import CytosegError

try:
    import fcntl
except ImportError:  # no such locks on this system
    fcntl = None  # type: ignore[assignment] # what it lacks is told from what it has

_LONGEST = 200
"""Characters of a holder's name that are quoted: the file may hold anything."""


@contextlib.contextmanager
def locked(path: Path, *, wait_s: float, error: type[CytosegError]) -> Iterator[None]:
    """Hold the lock of a file or folder: nobody else who asks for it changes the file or folder meanwhile.

    The lock lies beside it and says who holds it; the folder around is made. A process that dies, however it dies,
    holds it no longer.

    Args:
        path: What is changed; need not exist.
        wait_s: How long to wait for others.
        error: Raised if they take longer.

    Raises:
        CytosegError: Of the class ``error``, naming who holds the lock.
        OSError: If no lock can be made there.
    """
    lock = path.with_name(f".{path.name}.lock")
    held = FileLock(lock)
    try:
        held.acquire(timeout=wait_s)
    except Timeout:
        raise error(f"{path}: {_holder(lock)} is writing it. Wait until it ends, or stop it.") from None
    try:
        with contextlib.suppress(OSError):  # a lock without a name is one all the same
            lock.write_text(f"{_command()} (process {os.getpid()} on {socket.gethostname()}, since {_now()} UTC)\n")
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        held.release()


def claim(descriptor: int) -> None:
    """Mark an open file or folder as being written by this process, until it is closed; see ``is_claimed``.

    Where the disk knows no locks nothing happens.
    """
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_claimed(path: Path) -> bool:
    """Return whether a process that lives, on any machine, claims a file or folder; True too where unknown."""
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
    """Return the command that this process runs, such as ``cytoseg label-import``."""
    program = Path(sys.argv[0])
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
