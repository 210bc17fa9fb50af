"""Prefetching: applying a function in a background thread."""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_thread(
    function: Callable[[Item], Result], items: Iterable[Item], *, depth: int = 2
) -> Generator[Result, None, None]:
    """Apply a function to items in a background thread, in order and at most ``depth`` results ahead.

    Args:
        function: Called in the background thread, for one item at a time.
        items: Iterated in the calling thread.
        depth: Most results kept waiting, which bounds memory.

    Yields:
        The results in order; an exception of the function or the items is raised in its turn, after earlier results.
    """
    waiting: deque[Future[Result]] = deque()
    source = iter(items)
    with ThreadPoolExecutor(1) as pool:
        try:
            waiting.extend(itertools.islice(_begun(function, source, pool), depth))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(itertools.islice(_begun(function, source, pool), 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def _begun(
    function: Callable[[Item], Result], items: Iterator[Item], pool: ThreadPoolExecutor
) -> Iterator[Future[Result]]:
    """Submit items to the background thread; an exception of the iterator becomes a result to be raised."""
    try:
        for item in items:
            yield pool.submit(function, item)
    except Exception as error:
        failed: Future[Result] = Future()
        failed.set_exception(error)
        yield failed
