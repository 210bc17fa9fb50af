"""Ending on signals: SIGTERM and SIGHUP end a command as Ctrl-C does, and helpers end with their command."""

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

ENDING = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if name in signal.Signals.__members__)
"""What systemd, Docker, Slurm and a closed terminal send."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, and after these signals alike."""
PARENT = "CYTOSEG_PARENT"
"""Environment variable with the number of the process that a helper must not outlive."""

_LOOK_S = 0.5
Handler = Callable[[int, FrameType | None], Any]


@contextlib.contextmanager
def ending_as_on_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt; more of them, while the block ends, do nothing.

    A signal that is ignored stays ignored, as ``nohup`` wants it. In other threads than the main one nothing changes.
    """
    with handled(_interrupt, ENDING):
        yield


@contextlib.contextmanager
def handled(handler: Handler, numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Handle signals in the block, except those that are ignored; in other threads than the main one do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number in numbers if number == signal.SIGINT or old[number] != signal.SIG_IGN]
    for number in heard:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in heard:
            # While a command ends it shall not be ended once more: its results are being saved.
            ends = signal.getsignal(number) == signal.SIG_IGN and old[number] is _interrupt
            signal.signal(number, signal.SIG_IGN if ends else old[number])


def hear_no_more() -> None:
    """Ignore SIGTERM and SIGHUP from now on: the process is ending."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def leave_dead_terminal() -> None:
    """Write into nothing instead of a terminal that was closed, which would be an error at every line."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, descriptor)
                os.close(nothing)


def end_with(parent: int) -> None:
    """End this process, a helper, within a second of the process that started it, however that ended.

    Args:
        parent: Number of the process that started this one.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os._exit(INTERRUPTED)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    hear_no_more()
    leave_dead_terminal()
    raise KeyboardInterrupt
