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

END_SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if name in signal.Signals.__members__
)
"""Signals sent by systemd, Docker, Slurm and a closed terminal; SIGBREAK cancels a job on Windows."""
INTERRUPTED = 130
"""Exit status after Ctrl-C and after these signals."""
PARENT_VARIABLE = "CYTOSEG_PARENT"
"""Environment variable with the pid of the process that a child must not outlive."""
TORCHRUN_VARIABLE = "TORCHELASTIC_RUN_ID"
"""Environment variable that torchrun, and accelerate with it, sets in the processes it starts."""

_POLL_S = 0.5
Handler = Callable[[int, FrameType | None], Any]


class Interrupt:
    """Whether a signal has asked the process to stop; long loops check it between steps."""

    requested = False


_PROCESS = Interrupt()
"""That of the whole process, while a command runs."""


@contextlib.contextmanager
def end_signals_as_ctrl_c() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise KeyboardInterrupt; repeated signals during cleanup are ignored.

    A signal that is already ignored stays ignored, for ``nohup``. Does nothing outside the main thread.
    """
    ctrl_c = (signal.SIGINT,) if signal.getsignal(signal.SIGINT) is signal.default_int_handler else ()
    with signal_handler(_interrupt, (*ctrl_c, *END_SIGNALS)):
        _PROCESS.requested = False
        try:
            yield
        finally:
            _PROCESS.requested = False


@contextlib.contextmanager
def exit_at_once_on_signal() -> Iterator[None]:
    """End the process with status 130 at a Ctrl-C, SIGTERM or SIGHUP, silently and without cleaning up.

    For the seconds in which libraries load and there is nothing to save: a KeyboardInterrupt then can become an
    ImportError, or be lost. A signal that is ignored stays ignored.
    """
    numbers = (signal.SIGINT, *END_SIGNALS)
    with signal_handler(
        _end_at_once, tuple(number for number in numbers if signal.getsignal(number) != signal.SIG_IGN)
    ):
        yield


def raise_if_interrupted() -> None:
    """Raise the KeyboardInterrupt again that a library has swallowed, as some do while they load.

    Long-running work calls this regularly: later signals are ignored, so it could not be stopped otherwise.
    """
    if _PROCESS.requested and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


@contextlib.contextmanager
def errors_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt instead of the error that a library turns it into, such as an ImportError.

    Likewise for errors derived from that, such as a bundle reported as damaged. Errors of disk and memory are kept:
    something could not be saved.
    """
    try:
        yield
    except Exception as error:
        if not _PROCESS.requested or _is_of_disk(error):
            raise
        raise KeyboardInterrupt from error


def _is_of_disk(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError | MemoryError):
            return True
        error = error.__cause__
    return False


@contextlib.contextmanager
def signal_handler(handler: Handler, numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Install a signal handler for the block, except for ignored signals; no effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.getsignal(number) for number in numbers}
    installed = [number for number in numbers if number == signal.SIGINT or old[number] != signal.SIG_IGN]
    for number in installed:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in installed:
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
    interrupt.requested = _PROCESS.requested  # a library may have swallowed the KeyboardInterrupt

    # torchrun forwards a Ctrl-C that its processes have already received: a second one means nothing there.
    may_hurry = TORCHRUN_VARIABLE not in os.environ

    def handle(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and interrupt.requested and may_hurry:
            raise KeyboardInterrupt
        interrupt.requested = True
        if number in END_SIGNALS:
            ignore_end_signals()
            leave_dead_terminal()

    with signal_handler(handle, (signal.SIGINT, *END_SIGNALS)):
        yield interrupt


def ignore_end_signals() -> None:
    """Ignore SIGTERM and SIGHUP from now on because the process is ending."""
    for number in END_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def leave_dead_terminal() -> None:
    """Redirect output to the null device if the terminal was closed; every write would fail."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, descriptor)
                os.close(nothing)


def exit_with_parent(parent: int) -> None:
    """End this child process within a second of its parent, however the parent ended.

    Args:
        parent: Pid of the process that started this one.
    """
    _watch_parent(parent, lambda: os._exit(INTERRUPTED))


def terminate_with_parent(parent: int) -> None:
    """Send this process SIGTERM within a second of the end of its parent, so that it saves and ends.

    For the processes of one training, which could not be stopped otherwise.

    Args:
        parent: Pid of the process that started this one.
    """
    _watch_parent(parent, lambda: os.kill(os.getpid(), signal.SIGTERM))


def _watch_parent(parent: int, do: Callable[[], None]) -> None:
    def watch() -> None:
        while _is_parent(parent):
            time.sleep(_POLL_S)
        do()

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _is_parent(pid: int) -> bool:
    """Return whether the parent with this pid is alive; Windows keeps its pid when it has ended."""
    return os.getppid() == pid and (os.name != "nt" or exists(pid))


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _PROCESS.requested = True
    if number in END_SIGNALS:
        ignore_end_signals()
        leave_dead_terminal()
    raise KeyboardInterrupt


def _end_at_once(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
