"""Reading threads per file with a timeout, for unresponsive disks."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cytoseg.errors import SlideError

Value = TypeVar("Value")
THREADS, LIMIT_S = 4, 20.0


@dataclass
class _Lane:
    """Work queue of one file: waiting work, and since when each thread has been busy.

    Attributes:
        waiting: Futures with their work.
        busy: By thread, the start time of its current work.
    """

    waiting: deque[tuple[Future[Any], Callable[[], Any]]] = field(default_factory=deque)
    busy: dict[int, float] = field(default_factory=dict)
    threads: int = 0


class Lanes:
    """Reads each file in a few threads of its own, so that an unresponsive file does not block others.

    A dead network share blocks a thread forever. So there are few threads per file, further work is refused once all
    are stuck, and they do not keep the program from exiting.

    Args:
        threads: Most threads per file.
        limit_s: Timeout of a caller in seconds.
    """

    def __init__(self, *, threads: int = THREADS, limit_s: float = LIMIT_S) -> None:
        self._threads, self.limit_s = threads, limit_s
        self._lock = threading.Lock()
        self._lanes: dict[Hashable, _Lane] = {}

    def wait(self, lane: Hashable, work: Callable[[], Value]) -> Value:
        """Run work in a lane and wait for it.

        Args:
            lane: The file.
            work: Function that reads it.

        Raises:
            SlideError: If it times out, or all threads of the lane have been stuck for longer than the limit.
        """
        promised = self._begin(lane, work)
        try:
            return promised.result(self.limit_s)
        except TimeoutError as error:
            if promised.done():  # a timeout raised by the work itself
                raise
            promised.cancel()
            raise SlideError(self._silence()) from error

    async def ask(self, lane: Hashable, work: Callable[[], Value]) -> Value:
        """Run work in a lane without blocking the event loop; see `wait`."""
        promised = self._begin(lane, work)
        done, _ = await asyncio.wait([waited := asyncio.wrap_future(promised)], timeout=self.limit_s)
        if not done:
            waited.cancel()
            raise SlideError(self._silence())
        return waited.result()

    def _silence(self) -> str:
        return f"The disk has not answered for {self.limit_s:g} s. Is it a disconnected network share?"

    def _begin(self, name: Hashable, work: Callable[[], Value]) -> Future[Value]:
        promised: Future[Value] = Future()
        with self._lock:
            lane = self._lanes.setdefault(name, _Lane())
            late = time.monotonic() - self.limit_s
            if sum(begun < late for begun in lane.busy.values()) >= self._threads:
                raise SlideError(self._silence())
            lane.waiting.append((promised, work))
            new = lane.threads < self._threads
            lane.threads += new
        if new:
            threading.Thread(target=self._serve, args=(name, lane), name="lane", daemon=True).start()
        return promised

    def _serve(self, name: Hashable, lane: _Lane) -> None:
        while (item := self._next(name, lane)) is not None:
            promised, work = item
            try:
                promised.set_result(work())
            except BaseException as error:
                promised.set_exception(error)
            del promised, work, item  # drop the reference to the result

    def _next(self, name: Hashable, lane: _Lane) -> tuple[Future[Any], Callable[[], Any]] | None:
        """Take the oldest waiting work, dropping cancelled work; the last thread removes the lane."""
        with self._lock:
            lane.busy.pop(threading.get_ident(), None)
            while lane.waiting:
                promised, work = lane.waiting.popleft()
                if promised.set_running_or_notify_cancel():
                    lane.busy[threading.get_ident()] = time.monotonic()
                    return promised, work
            lane.threads -= 1
            if not lane.threads:
                del self._lanes[name]
            return None
