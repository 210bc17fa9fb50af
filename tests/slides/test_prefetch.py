import threading
from collections.abc import Iterator

import pytest

from cytoseg.slides.prefetch import map_in_thread


def test_results_come_in_order_from_one_other_thread() -> None:
    threads = set()

    def square(number: int) -> int:
        threads.add(threading.current_thread())
        return number**2

    assert list(map_in_thread(square, range(10))) == [n**2 for n in range(10)]
    assert list(map_in_thread(square, [])) == []
    assert threading.current_thread() not in threads


def test_no_more_than_a_few_items_are_taken_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    results = map_in_thread(lambda number: number, items(), depth=2)
    assert next(results) == 0
    assert taken == [0, 1, 2]
    assert next(results) == 1
    assert taken == [0, 1, 2, 3]
    results.close()


def test_work_overlaps() -> None:
    """The second item is begun before the first result is asked for a second time: each waits for the other's event."""
    begun = [threading.Event(), threading.Event()]

    def work(number: int) -> int:
        begun[number].set()
        return number

    results = map_in_thread(work, range(2))
    assert next(results) == 0
    assert begun[1].wait(timeout=10)
    assert next(results) == 1


def test_an_error_comes_in_its_turn_and_ends_the_thread() -> None:
    def work(number: int) -> int:
        if number == 2:
            raise RuntimeError("broken")
        return number

    before = threading.active_count()
    results = map_in_thread(work, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(RuntimeError, match="broken"):
        next(results)
    assert threading.active_count() == before


def test_items_that_cannot_be_made_are_an_error_after_the_results_before_it() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise RuntimeError("no third")

    results = map_in_thread(lambda number: number, items(), depth=5)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(RuntimeError, match="no third"):
        next(results)


def test_items_are_made_by_this_thread() -> None:
    seen = []
    results = map_in_thread(lambda number: number, (seen.append(threading.current_thread()) or n for n in range(4)))
    assert list(results) == [0, 1, 2, 3]
    assert set(seen) == {threading.current_thread()}
