"""Torch's defaults while the package computes, whatever its caller has set."""

import contextlib
import os
import threading
from collections.abc import Iterator

import torch

_OURS = torch.float32


class _DefaultType:
    """Torch's default type, which is one for all threads: the first that enters sets it, the last restores it."""

    def __init__(self) -> None:
        self._lock, self._users, self._callers = threading.Lock(), 0, _OURS

    @contextlib.contextmanager
    def ours(self) -> Iterator[None]:
        with self._lock:
            if not self._users:
                self._callers = torch.get_default_dtype()
                torch.set_default_dtype(_OURS)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users and self._callers != _OURS:
                    torch.set_default_dtype(self._callers)


_default_type = _DefaultType()
_process = os.getpid()


@contextlib.contextmanager
def torch_defaults() -> Iterator[None]:
    """Compute with torch's own defaults: float32, on the CPU where no device is named, with gradients, no autocast.

    A notebook may have changed them for its own networks (``torch.set_default_dtype``, ``torch.set_default_device``,
    ``torch.autocast``, ``torch.no_grad``); its settings come back at the end. The default type is one for all threads,
    so other threads of the caller see float32 meanwhile. A forked process computes with one thread: it has not got
    OpenMP's others, and would wait for them without end.
    """
    if os.getpid() != _process:
        torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_default_type.ours())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for device_type in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        yield
