import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from cytoseg.errors import SlideError
from cytoseg.viewer.reading_threads import Lanes
from tests.event_loop import run


@pytest.fixture
def dead() -> Iterator[threading.Event]:
    """What a read of a dead share waits for; at the end of the test the share comes back."""
    event = threading.Event()
    yield event
    event.set()


def _rest(lanes: Lanes) -> None:
    """Wait until no lane has a thread."""
    end = time.monotonic() + 5
    while lanes._lanes and time.monotonic() < end:
        time.sleep(0.005)
    assert lanes._lanes == {}


def test_what_is_done_in_a_lane_comes_back() -> None:
    lanes = Lanes()
    assert lanes.wait("a", lambda: 7) == 7
    assert run(lanes.ask("a", lambda: 8)) == 8


def test_what_goes_wrong_in_a_lane_comes_back() -> None:
    lanes = Lanes()

    def late() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        lanes.wait("a", late)
    with pytest.raises(TimeoutError, match="of its own"):
        run(lanes.ask("a", late))


def test_a_file_that_never_answers_is_given_up_and_holds_up_no_other(dead: threading.Event) -> None:
    lanes = Lanes(threads=2, limit_s=0.2)
    for _ in range(2):
        with pytest.raises(SlideError, match=r"The disk has not answered for 0\.2 s\. Is it a disconnected"):
            lanes.wait("dead", dead.wait)
        with pytest.raises(SlideError, match="has not answered"):
            run(lanes.ask("dead", dead.wait))
    assert lanes.wait("alive", lambda: 7) == 7
    assert sum(thread.name == "lane" for thread in threading.enumerate()) <= 2 + 1


def test_once_all_its_threads_are_stuck_a_file_is_refused_at_once(dead: threading.Event) -> None:
    lanes = Lanes(threads=1, limit_s=0.2)
    with pytest.raises(SlideError):
        lanes.wait("dead", dead.wait)
    begin = time.monotonic()
    with pytest.raises(SlideError):
        lanes.wait("dead", lambda: 7)
    assert time.monotonic() - begin < 0.15
    dead.set()
    _rest(lanes)
    assert lanes.wait("dead", lambda: 7) == 7


def test_abandoned_work_is_not_started(dead: threading.Event) -> None:
    lanes, begun = Lanes(threads=1, limit_s=0.2), []

    async def both() -> list[object]:
        asked = [lanes.ask("a", dead.wait), lanes.ask("a", lambda: begun.append(1))]
        return await asyncio.gather(*asked, return_exceptions=True)

    assert [type(found) for found in run(both())] == [SlideError, SlideError]
    dead.set()
    _rest(lanes)
    lanes.wait("a", lambda: begun.append(2))
    assert begun == [2]


def test_a_lane_has_so_many_threads_and_none_when_nothing_is_to_be_done() -> None:
    lanes, inside, most = Lanes(threads=3), [], []

    def work() -> None:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.002)
        inside.pop()

    async def many() -> None:
        await asyncio.gather(*(lanes.ask("a", work) for _ in range(30)))

    run(many())
    assert len(most) == 30
    assert max(most) == 3
    _rest(lanes)
