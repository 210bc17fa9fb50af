import contextlib
import errno
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cytoseg.cli import one_line_errors
from cytoseg.errors import SlideError
from cytoseg.interrupts import (
    END_SIGNALS,
    end_signals_as_ctrl_c,
    errors_as_interrupt,
    exit_with_parent,
    finish_step_on_interrupt,
)
from cytoseg.terminal import progress

COMMAND = """
import sys, time
from cytoseg import cli
def build_app(chosen, verb):
    def work():
        try:
            print("begun", flush=True)
            time.sleep(60)
        finally:
            open("saved", "w").close()
    return cli.one_line_errors(work)
cli.build_app = build_app
cli.main()
"""
"""A command of the real command line that takes a minute and saves at its end."""


def _end_on_hup() -> None:
    """Undo what nohup may have set for the tests themselves."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _hear_all() -> None:
    """Likewise for Ctrl-C, which a shell's background jobs do not hear."""
    _end_on_hup()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _start(folder: Path, **options: object) -> "subprocess.Popen[str]":
    process = subprocess.Popen(  # type: ignore[call-overload] # the options are a test's own
        [sys.executable, "-c", COMMAND],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stderr=subprocess.PIPE,
        text=True,
        **{"stdout": subprocess.PIPE, "preexec_fn": _end_on_hup, **options},
    )
    return process  # type: ignore[no-any-return] # likewise


@pytest.mark.posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_command_ends_on_signals_as_on_ctrl_c(name: str, tmp_path: Path) -> None:
    with _start(tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.Signals[name])
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "cytoseg: interrupted; finished work is kept and no file is half-written.\n"
    assert (tmp_path / "saved").exists()


@pytest.mark.posix
def test_under_nohup_a_closed_terminal_means_nothing(tmp_path: Path) -> None:
    with _start(tmp_path, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130


@pytest.mark.posix
def test_a_command_whose_terminal_is_closed_saves_all_the_same(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    program = COMMAND.replace('open("saved"', 'print("more"); print("errors", file=sys.stderr); open("saved"')
    process = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n{program}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_end_on_hup,
    )
    os.close(theirs)
    assert b"begun" in os.read(ours, 100)
    os.close(ours)
    assert process.wait(30) == 130
    assert (tmp_path / "saved").exists()


@pytest.mark.posix
def test_a_second_signal_does_not_cut_what_is_being_saved() -> None:
    before = signal.getsignal(signal.SIGTERM)
    saved = []
    with contextlib.suppress(KeyboardInterrupt), end_signals_as_ctrl_c():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            saved.append(True)
    assert saved == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_signals_are_left_alone() -> None:
    seen: list[object] = []

    def work() -> None:
        with end_signals_as_ctrl_c():
            seen.extend(signal.getsignal(number) for number in END_SIGNALS)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(number) for number in END_SIGNALS]


def _is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.posix
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_helper_does_not_outlive_a_command_that_was_killed(tmp_path: Path) -> None:
    helper = (
        "import os, time; from cytoseg.interrupts import exit_with_parent; "
        "exit_with_parent(int(os.environ['P'])); time.sleep(60)"
    )
    parent = f"""
import os, subprocess, sys, time
helper = subprocess.Popen([sys.executable, "-c", {helper!r}], env={{**os.environ, "P": str(os.getpid())}})
print(helper.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", parent],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        number = int(process.stdout.readline())
        assert _is_running(number)
        process.kill()
        process.wait()
        end = time.monotonic() + 30
        while _is_running(number):
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_process_whose_parent_lives_goes_on() -> None:
    exit_with_parent(os.getppid())
    time.sleep(0.6)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_noted_and_the_handler_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with finish_step_on_interrupt() as interrupt:
        assert not interrupt.requested
        os.kill(os.getpid(), number)
        assert interrupt.requested
    assert signal.getsignal(number) is before


def _interrupt_twice() -> None:
    with finish_step_on_interrupt():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_a_second_interrupt_stops_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        _interrupt_twice()
    with finish_step_on_interrupt() as interrupt:
        assert not interrupt.requested


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    seen: list[bool] = []

    def work() -> None:
        with finish_step_on_interrupt() as interrupt:
            seen.append(interrupt.requested)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
    assert signal.getsignal(signal.SIGINT) is before


def _interrupted_then(error: Exception) -> None:
    """Be a library that meets a signal and makes an error of its own of it."""
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    raise error


def _damaged(reason: Exception) -> SlideError:
    """Return the error that a reader raises from another."""
    found = SlideError("a.tif: damaged.")
    found.__cause__ = reason
    return found


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("unexpected pos"),
        ImportError("multiarray"),
        SystemError("result"),
        SlideError("a.tif: damaged."),
        _damaged(RuntimeError("empty mode stack")),
    ],
)
def test_what_is_made_of_a_signal_is_an_interrupt(error: Exception) -> None:
    with pytest.raises(KeyboardInterrupt), end_signals_as_ctrl_c(), errors_as_interrupt():
        _interrupted_then(error)


@pytest.mark.parametrize("error", [_damaged(OSError(errno.ENOSPC, "full")), OSError(errno.ENOSPC, "x"), MemoryError()])
def test_what_could_not_be_saved_is_still_said_after_a_signal(error: Exception) -> None:
    with pytest.raises(type(error)), end_signals_as_ctrl_c(), errors_as_interrupt():
        _interrupted_then(error)


def test_a_swallowed_interrupt_ends_the_next_long_work() -> None:
    with end_signals_as_ctrl_c():
        with progress("before", 2) as bar:
            bar.update(1)
        with contextlib.suppress(KeyboardInterrupt):  # as some libraries do
            signal.raise_signal(signal.SIGTERM)
        with finish_step_on_interrupt() as interrupt:
            assert interrupt.requested
        with pytest.raises(KeyboardInterrupt), progress("after", 2) as bar:
            bar.update(1)
    with finish_step_on_interrupt() as interrupt:
        assert not interrupt.requested


def test_a_bug_before_or_without_a_signal_stays_a_bug() -> None:
    with contextlib.suppress(KeyboardInterrupt), end_signals_as_ctrl_c():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(ValueError, match="a bug"), end_signals_as_ctrl_c(), errors_as_interrupt():
        raise ValueError("a bug")


def test_a_command_that_meets_an_error_after_a_signal_ends_as_on_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    command = one_line_errors(lambda: _interrupted_then(RuntimeError("unexpected pos")))
    with pytest.raises(SystemExit) as end, end_signals_as_ctrl_c():
        command()
    assert end.value.code == 130
    assert capsys.readouterr().err == "cytoseg: interrupted; finished work is kept and no file is half-written.\n"


LOADING = """
import sys, time, importlib.util
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            print("begun", flush=True)
            try:
                time.sleep(60)
            except BaseException:  # as some libraries do
                raise ImportError(name)
sys.meta_path.insert(0, Slow())
sys.argv = ["cytoseg", "doctor"]
from cytoseg.__main__ import main
main()
"""


@pytest.mark.posix
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("typer", "SIGINT"),
        ("typer", "SIGTERM"),
        ("cytoseg.commands.doctor", "SIGHUP"),
        ("cytoseg.commands.doctor", "SIGINT"),
    ],
)
def test_a_signal_while_libraries_load_ends_in_silence(name: str, number: str) -> None:
    with _program(LOADING.format(name=name)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.Signals[number])
        assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130


@pytest.mark.posix
def test_ctrl_c_at_the_end_of_the_interpreter_shows_no_trace() -> None:
    program = """
import atexit, sys, time
atexit.register(lambda: (print("ending", flush=True), time.sleep(60)))
sys.argv = ["cytoseg", "--version"]
from cytoseg.__main__ import main
main()
"""
    with _program(program) as process:
        assert process.stdout is not None
        assert "ending" in (process.stdout.readline(), process.stdout.readline())[1]
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == -signal.SIGINT


def _program(text: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", text],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_all,
    )
