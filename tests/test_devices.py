import contextlib

import pytest
import torch

from cytoseg.devices import autocast, computes_bf16, pick_device, working_precision
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


@pytest.mark.parametrize("name", ["tpu", "mps", "cuda:", "cuda:x", "", "cpu\n"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=r"^device .* is unknown\. Use auto, cpu, cuda or cuda:N\."):
        pick_device(name)


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
    images, kernel = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 1)
    with autocast(CPU, "bf16"):
        result = torch.nn.functional.conv2d(images, kernel).dtype
    assert result == (torch.bfloat16 if expected == "bf16" else torch.float32)
    with autocast(CPU, "no"):
        assert torch.nn.functional.conv2d(images, kernel).dtype == torch.float32


@pytest.mark.parametrize("computes", [True, False])
def test_bf16_is_not_emulated_by_a_gpu(monkeypatch: pytest.MonkeyPatch, computes: bool) -> None:
    def supported(*, including_emulation: bool) -> bool:
        return including_emulation or computes

    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert working_precision("bf16", GPU) == ("bf16" if computes else "no")
    assert working_precision("no", GPU) == "no"
