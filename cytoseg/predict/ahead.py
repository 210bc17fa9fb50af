"""Doing the next pieces of work in another thread while this one is busy with the last."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(function: Callable[[Item], Result], items: Iterable[Item], *, depth: int = 2) -> Iterator[Result]:
    """Apply a function to items in one other thread, in their order and at most a few items ahead.

    Args:
        function: Called by the other thread only, for one item at a time.
        items: Taken by this thread.
        depth: Most results that wait to be asked for, so that memory is bounded.

    Yields:
        The results in order; what the function raises is raised in its turn.
    """
    waiting: deque[Future[Result]] = deque()
    source = iter(items)
    with ThreadPoolExecutor(1) as pool:
        try:
            waiting.extend(pool.submit(function, item) for item in itertools.islice(source, depth))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in itertools.islice(source, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()
