"""Doing the next pieces of work in another thread while this one is busy with the last."""

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
    """Apply a function to items in one other thread, in their order and at most a few items ahead.

    Args:
        function: Called by the other thread only, for one item at a time.
        items: Taken by this thread, which so may do work of its own between the results.
        depth: Most results that wait to be asked for, so that memory is bounded.

    Yields:
        The results in order; what the function or the items raise is raised in its turn, after the results before it.
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
    """Hand items to the other thread; one that cannot be made is a result that will be raised."""
    try:
        for item in items:
            yield pool.submit(function, item)
    except Exception as error:
        failed: Future[Result] = Future()
        failed.set_exception(error)
        yield failed
