"""Signals: SIGTERM and SIGHUP act like Ctrl-C; child processes end with their parent."""

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

if os.name == "nt":  # elsewhere the import of psutil would only cost time
    from cytoseg.process_table import exists

ENDING = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if name in signal.Signals.__members__)
"""Signals sent by systemd, Docker, Slurm and a closed terminal; SIGBREAK cancels a job on Windows."""
INTERRUPTED = 130
"""Exit status after Ctrl-C and after these signals."""
PARENT = "CYTOSEG_PARENT"
"""Environment variable with the pid of the process that a child must not outlive."""
TORCHRUN = "TORCHELASTIC_RUN_ID"
"""Environment variable that torchrun, and accelerate with it, sets in the processes it starts."""

_LOOK_S = 0.5
Handler = Callable[[int, FrameType | None], Any]


class Interrupt:
    """Whether a signal has asked the process to stop; long loops check it between steps."""

    requested = False


_ASKED = Interrupt()
"""Of the whole process, while a command runs."""


@contextlib.contextmanager
def ending_as_on_ctrl_c() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise KeyboardInterrupt; repeated signals during cleanup are ignored.

    A signal that is already ignored stays ignored, for ``nohup``. Does nothing outside the main thread.
    """
    ctrl_c = (signal.SIGINT,) if signal.getsignal(signal.SIGINT) is signal.default_int_handler else ()
    with handled(_interrupt, (*ctrl_c, *ENDING)):
        _ASKED.requested = False
        try:
            yield
        finally:
            _ASKED.requested = False


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """End the process with status 130 at a Ctrl-C, SIGTERM or SIGHUP, silently and without cleaning up.

    For the seconds in which libraries load and there is nothing to save: a KeyboardInterrupt then can become an
        ImportError, or be lost. A signal that is ignored stays ignored.
    """
    numbers = (signal.SIGINT, *ENDING)
    with handled(_end_at_once, tuple(number for number in numbers if signal.getsignal(number) != signal.SIG_IGN)):
        yield


def end_if_asked() -> None:
    """Raise the KeyboardInterrupt again that a library has swallowed, as some do while they load.

    Long-running work calls this regularly: later signals are ignored, so it could not be stopped otherwise.
    """
    if _ASKED.requested and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


@contextlib.contextmanager
def errors_of_ending() -> Iterator[None]:
    """Raise KeyboardInterrupt instead of the error that a library turns it into, such as an ImportError.

    Likewise for errors derived from that, such as a bundle reported as damaged. Errors of disk and memory are kept:
    something could not be saved.
    """
    try:
        yield
    except Exception as error:
        if not _ASKED.requested or _is_of_disk(error):
            raise
        raise KeyboardInterrupt from error


def _is_of_disk(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError | MemoryError):
            return True
        error = error.__cause__
    return False


@contextlib.contextmanager
def handled(handler: Handler, numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Install a signal handler for the block, except for ignored signals; no effect outside the main thread."""
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
            # A command that is ending must not be interrupted again: its results are being saved.
            ends = signal.getsignal(number) == signal.SIG_IGN and old[number] is _interrupt
            signal.signal(number, signal.SIG_IGN if ends else old[number])


@contextlib.contextmanager
def finish_step_on_interrupt() -> Iterator[Interrupt]:
    """On Ctrl-C, SIGTERM or SIGHUP finish the current step; a second Ctrl-C stops at once.

    The other signals often arrive twice: a closed terminal is signalled by the system and by the shell.

    Yields:
        An object whose ``requested`` becomes True.
    """
    interrupt = Interrupt()
    interrupt.requested = _ASKED.requested  # a library may have swallowed the KeyboardInterrupt

    # torchrun forwards a Ctrl-C that its processes have already received: a second one means nothing there.
    may_hurry = TORCHRUN not in os.environ

    def handle(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and interrupt.requested and may_hurry:
            raise KeyboardInterrupt
        interrupt.requested = True
        if number in ENDING:
            hear_no_more()
            leave_dead_terminal()

    with handled(handle, (signal.SIGINT, *ENDING)):
        yield interrupt


def hear_no_more() -> None:
    """Ignore SIGTERM and SIGHUP from now on because the process is ending."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def leave_dead_terminal() -> None:
    """Redirect output to the null device if the terminal was closed; every write would fail."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, descriptor)
                os.close(nothing)


def end_with(parent: int) -> None:
    """End this child process within a second of its parent, however the parent ended.

    Args:
        parent: Pid of the process that started this one.
    """
    _at_end_of(parent, lambda: os._exit(INTERRUPTED))


def asked_to_end_with(parent: int) -> None:
    """Send this process SIGTERM within a second of the end of its parent, so that it saves and ends.

    For the processes of one training, which could not be stopped otherwise.

    Args:
        parent: Pid of the process that started this one.
    """
    _at_end_of(parent, lambda: os.kill(os.getpid(), signal.SIGTERM))


def _at_end_of(parent: int, do: Callable[[], None]) -> None:
    def watch() -> None:
        while _is_parent(parent):
            time.sleep(_LOOK_S)
        do()

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _is_parent(pid: int) -> bool:
    """Return whether the parent with this pid is alive; Windows keeps its pid when it has ended."""
    return os.getppid() == pid and (os.name != "nt" or exists(pid))


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _ASKED.requested = True
    if number in ENDING:
        hear_no_more()
        leave_dead_terminal()
    raise KeyboardInterrupt


def _end_at_once(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
