"""Pool of open slides and maps, shared by the threads of a server."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from cytoseg.errors import SlideError

MAX_IDLE = 8


class Closable(Protocol):
    """An open file."""

    def close(self) -> None:
        """Close the file."""


Opened = TypeVar("Opened", bound=Closable)


@dataclass
class _Held(Generic[Opened]):
    stamp: tuple[int, int]
    thing: Opened | None = None
    users: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)


class HandlePool(Generic[Opened]):
    """Open files, each lent to one thread at a time; the least recently used beyond a limit are closed.

    Args:
        opener: Opens a file.
        max_idle: How many idle files stay open.
    """

    def __init__(self, opener: Callable[[Path], Opened], *, max_idle: int = MAX_IDLE) -> None:
        self._opener, self._max_idle = opener, max_idle
        self._lock = threading.Lock()
        self._held: dict[Path, _Held[Opened]] = {}  # least recently lent first
        self._stale: list[_Held[Opened]] = []

    @contextlib.contextmanager
    def lend(self, path: Path) -> Iterator[Opened]:
        """Return the open file, reopened if it has changed.

        Raises:
            SlideError: If it is missing or cannot be opened.
        """
        held = self._taken(path)
        try:
            # One reader at a time: several would decode the same image into separate memory. The file is opened under
            # the same lock, and so only once; other files need not wait for a slow one.
            with held.turn:
                held.thing = held.thing or self._opener(path)
                yield held.thing
        finally:
            with self._lock:
                held.users -= 1
            self._close_unused()

    def close(self) -> None:
        """Close all idle files."""
        with self._lock:
            self._stale += self._held.values()
            self._held.clear()
        self._close_unused()

    def _taken(self, path: Path) -> _Held[Opened]:
        try:
            status = path.stat()
        except OSError as error:
            raise SlideError(f"{path.name}: no longer exists. Restore it.") from error
        stamp = (status.st_mtime_ns, status.st_size)
        with self._lock:
            held = self._held.pop(path, None)
            if held is not None and held.stamp != stamp:
                self._stale.append(held)
                held = None
            held = held or _Held(stamp)
            self._held[path] = held
            held.users += 1
        self._close_unused()
        return held

    def _close_unused(self) -> None:
        with self._lock:
            unused = [path for path, held in self._held.items() if not held.users]
            for path in unused[: max(0, len(self._held) - self._max_idle)]:
                self._stale.append(self._held.pop(path))
            closing = [held for held in self._stale if not held.users]
            self._stale = [held for held in self._stale if held.users]
        for held in closing:
            if held.thing is not None:
                held.thing.close()
