import sys
from typing import Any

import pytest
import torch

from cytoseg.devices import (
    autocast,
    computes_bf16,
    generator_for,
    pick_device,
    seed_for,
    tune_cpu_allocator,
    working_precision,
)
from cytoseg.errors import RecipeError


@pytest.mark.parametrize(("there", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, there: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert pick_device("auto") == torch.device(expected)


def test_cpu_stays_cpu_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(RecipeError, match=r"device 'cuda:2': this machine has 2 GPUs, counted from cuda:0\."):
        pick_device("cuda:2")


def test_a_missing_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RecipeError, match=r"device 'cuda:1' is not available .* training\.device=cpu"):
        pick_device("cuda:1")


CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("bf16", "amx", "expected"), [(0, 0, "no"), (1, 0, "bf16"), (0, 1, "bf16")])
def test_bf16_is_used_only_by_processors_with_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, bf16: int, amx: int, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bool(bf16))
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bool(amx))
    assert computes_bf16(CPU) == (expected == "bf16")
    assert working_precision("bf16", CPU) == expected
    assert working_precision("no", CPU) == "no"
    assert (working_precision("bf16", GPU), working_precision("no", GPU)) == ("bf16", "no")
    images, kernel = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 1)
    with autocast(CPU, "bf16"):
        result = torch.nn.functional.conv2d(images, kernel).dtype
    assert result == (torch.bfloat16 if expected == "bf16" else torch.float32)
    with autocast(CPU, "no"):
        assert torch.nn.functional.conv2d(images, kernel).dtype == torch.float32


def test_seeds_are_the_same_on_every_machine() -> None:
    assert seed_for(0, 0, what="crop") == 3421858462
    assert seed_for(1, 7, what="noise") == 31922039


def test_seeds_differ_by_seed_index_and_purpose() -> None:
    seeds = {seed_for(s, i, what=w) for s in range(10) for i in range(100) for w in ("crop", "noise")}
    assert len(seeds) == 2000
    assert all(0 <= s < 2**32 for s in seeds)


def test_generators_repeat_and_leave_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    first = torch.rand(3, generator=generator_for(5, 2, what="sample"))
    torch.testing.assert_close(torch.rand(3, generator=generator_for(5, 2, what="sample")), first)
    assert not torch.equal(torch.rand(3, generator=generator_for(5, 3, what="sample")), first)
    assert torch.equal(torch.get_rng_state(), before)


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
