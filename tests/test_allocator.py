import sys
from typing import Any

import pytest

from cytoseg.allocator import tune_cpu_allocator


def test_the_allocator_keeps_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, option: int, value: int) -> int:
            calls.append((option, value))
            return 1

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda _name: Library())
    assert tune_cpu_allocator()
    assert calls == [(-4, 0), (-1, 2**31 - 1)]


def _not_found(_name: str) -> Any:
    raise OSError("libc.so.6: cannot open shared object file")


def test_allocator_is_left_alone_on_another_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda _name: object())
    assert not tune_cpu_allocator()
    monkeypatch.setattr("ctypes.CDLL", _not_found)
    assert not tune_cpu_allocator()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not tune_cpu_allocator()
