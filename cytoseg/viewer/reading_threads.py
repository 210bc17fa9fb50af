"""Threads that read files which may never answer: a few for each file, and a limit of time."""

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
    """What is to be read of one file: what waits, and since when each thread has been busy.

    Attributes:
        waiting: Promised results, and what makes them.
        busy: By thread, the time at which it began what it does.
    """

    waiting: deque[tuple[Future[Any], Callable[[], Any]]] = field(default_factory=deque)
    busy: dict[int, float] = field(default_factory=dict)
    threads: int = 0


class Lanes:
    """Lets each file be read by a few threads of its own, so that one which never answers holds up no other.

    A dead network share keeps a thread for good: nothing ends it. So there are few for each file, more work for it is
    refused once all are stuck, and they do not keep the program from ending.

    Args:
        threads: How many read one file at once, at most.
        limit_s: How long whoever asks waits, in seconds.
    """

    def __init__(self, *, threads: int = THREADS, limit_s: float = LIMIT_S) -> None:
        self._threads, self.limit_s = threads, limit_s
        self._lock = threading.Lock()
        self._lanes: dict[Hashable, _Lane] = {}

    def wait(self, lane: Hashable, work: Callable[[], Value]) -> Value:
        """Do something in a lane, and wait for it.

        Args:
            lane: What is read.
            work: Reads it.

        Raises:
            SlideError: If it takes longer than the limit, or all threads of the lane have for longer than that.
        """
        promised = self._begin(lane, work)
        try:
            return promised.result(self.limit_s)
        except TimeoutError as error:
            if promised.done():  # it is the work that says so
                raise
            promised.cancel()
            raise SlideError(self._silence()) from error

    async def ask(self, lane: Hashable, work: Callable[[], Value]) -> Value:
        """Do something in a lane, and let others go on meanwhile; see `wait`."""
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
            del promised, work, item  # what was made is not kept until there is more to do

    def _next(self, name: Hashable, lane: _Lane) -> tuple[Future[Any], Callable[[], Any]] | None:
        """Take what waits longest, and leave out what nobody waits for any more; the last thread clears the lane."""
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
