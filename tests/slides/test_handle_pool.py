import os
import threading
import time
from pathlib import Path

import pytest

from cytoseg.errors import SlideError
from cytoseg.slides.handle_pool import HandlePool


class _File:
    def __init__(self, path: Path) -> None:
        self.text, self.closed = path.read_text(), False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = [tmp_path / name for name in "abc"]
    for path in found:
        path.write_text(path.name)
    return found


def test_a_file_stays_open_until_others_are_wanted(paths: list[Path]) -> None:
    pool = HandlePool(_File, max_idle=2)
    seen = []
    for path in (paths[0], paths[1], paths[0], paths[2]):
        with pool.lend(path) as file:
            seen.append(file)
    assert seen[0] is seen[2]
    assert [file.closed for file in seen] == [False, True, False, False]
    pool.close()
    assert all(file.closed for file in seen)


def test_a_file_in_use_is_not_closed(paths: list[Path]) -> None:
    pool = HandlePool(_File, max_idle=1)
    with pool.lend(paths[0]) as first:
        for path in paths[1:]:
            with pool.lend(path):
                pass
        pool.close()
        assert not first.closed
    assert first.closed


def test_a_changed_file_is_reopened(paths: list[Path]) -> None:
    pool = HandlePool(_File)
    with pool.lend(paths[0]) as before:
        pass
    paths[0].write_text("changed")
    os.utime(paths[0], ns=(1, 1))
    with pool.lend(paths[0]) as after:
        assert after.text == "changed"
    assert before.closed


def test_a_file_that_is_gone_is_refused_without_its_path(paths: list[Path]) -> None:
    paths[0].unlink()
    with pytest.raises(SlideError, match=r"^a: no longer exists"), HandlePool(_File).lend(paths[0]):
        pass


def test_a_file_that_takes_its_time_to_open_holds_up_no_other(paths: list[Path]) -> None:
    answer = threading.Event()

    def opener(path: Path) -> _File:
        if path == paths[0]:
            answer.wait(10)
        return _File(path)

    def use() -> None:
        with pool.lend(paths[0]) as file:
            seen.append(file.text)

    pool, seen = HandlePool(opener, max_idle=1), []
    slow = [threading.Thread(target=use) for _ in range(3)]
    for thread in slow:
        thread.start()
    with pool.lend(paths[1]) as other:
        assert (other.text, seen) == ("b", [])
    pool.close()
    answer.set()
    for thread in slow:
        thread.join()
    assert seen == ["a"] * 3


def test_a_file_that_could_not_be_opened_is_tried_again(paths: list[Path]) -> None:
    tries: list[Path] = []

    def opener(path: Path) -> _File:
        tries.append(path)
        if len(tries) == 1:
            raise SlideError("a: is damaged.")
        return _File(path)

    pool = HandlePool(opener)
    with pytest.raises(SlideError), pool.lend(paths[0]):
        pass
    with pool.lend(paths[0]) as file:
        assert file.text == "a"
    pool.close()
    assert file.closed


def test_threads_take_turns_and_open_a_file_once(paths: list[Path]) -> None:
    inside, max_idle, opened = [], [], []

    def opener(path: Path) -> _File:
        opened.append(path)
        return _File(path)

    pool = HandlePool(opener)

    def use() -> None:
        for _ in range(20):
            with pool.lend(paths[0]):
                inside.append(1)
                time.sleep(0.0002)  # lets another thread in, if it may
                max_idle.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(max_idle) == 1
    assert len(max_idle) == 160
    assert opened == [paths[0]]
