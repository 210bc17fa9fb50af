"""What a caller has set in torch is set aside while the package computes, and comes back."""

import os
import threading
from collections.abc import Iterator

import pytest
import torch

from cytoseg.torch_defaults import torch_defaults


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


def _sees_defaults() -> bool:
    made = torch.ones(2)
    product = made[None] @ made[:, None]
    return (made.dtype, made.device.type, product.dtype, torch.is_grad_enabled()) == (
        torch.float32,
        "cpu",
        torch.float32,
        True,
    )


def test_settings_of_the_caller_come_back() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        with torch_defaults():
            assert _sees_defaults()
            assert not torch.ones(1).is_inference()
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_inference_mode_enabled()
    assert (torch.ones(1).dtype, torch.ones(1).device.type) == (torch.float64, "meta")


def test_settings_come_back_after_an_error() -> None:
    torch.set_default_dtype(torch.bfloat16)
    with pytest.raises(ValueError, match="wrong"), torch_defaults():
        raise ValueError("wrong")
    assert torch.get_default_dtype() == torch.bfloat16


def test_the_last_of_two_threads_restores_the_type() -> None:
    torch.set_default_dtype(torch.float64)
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with torch_defaults():
            inside.set()
            leave.wait(20)

    other = threading.Thread(target=stay)
    other.start()
    assert inside.wait(20)
    with torch_defaults():
        assert _sees_defaults()
    assert torch.get_default_dtype() == torch.float32
    leave.set()
    other.join()
    assert torch.get_default_dtype() == torch.float64


def test_a_type_set_meanwhile_is_kept() -> None:
    with torch_defaults():
        torch.set_default_dtype(torch.float64)
    assert torch.get_default_dtype() == torch.float64


@pytest.mark.posix
def test_only_a_forked_process_computes_with_one_thread() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch_defaults():
            assert torch.get_num_threads() == 2
        child = os.fork()
        if child == 0:
            with torch_defaults():
                os._exit(torch.get_num_threads())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    finally:
        torch.set_num_threads(before)
