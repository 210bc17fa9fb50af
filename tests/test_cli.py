"""The program as a whole: fast help, one line for a user's error, a traceback for a bug."""

import errno
import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from typer.testing import CliRunner

from cytoseg import __version__, cli
from cytoseg.errors import SlideError

HEAVY = ("torch", "monai", "matplotlib", "sklearn", "skimage", "pydantic", "numpy")
WATCHED_HELP = f"""
import json, sys, time
sys.argv = ["cytoseg", "--help"]
from cytoseg.cli import main
try:
    main()
except SystemExit as end:
    status = end.code or 0
loaded = [name for name in {HEAVY} if name in sys.modules]
print(json.dumps([status, time.process_time(), loaded]), file=sys.stderr)
"""


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    seconds = []
    for _ in range(3):  # the best of three: others may be using the processor
        done = subprocess.run([sys.executable, "-c", WATCHED_HELP], capture_output=True, text=True, check=True)
        status, used, loaded = json.loads(done.stderr)
        assert (status, loaded) == (0, [])
        assert all(name in done.stdout for name in cli.COMMANDS)
        seconds.append(used)
        if used < 0.5:
            break
    assert min(seconds) < 0.5


QUICKSTART = str(Path(__file__).parents[1] / "recipes" / "quickstart.yaml")


@pytest.mark.parametrize(
    ("line", "ends"), [(["recipe", "list"], 0), (["runs"], 0), (["recipe", "check", QUICKSTART], 2)]
)
def test_what_only_lists_or_checks_loads_nothing_heavy(line: list[str], ends: int, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    watched = WATCHED_HELP.replace('["cytoseg", "--help"]', repr(["cytoseg", *line])).replace(
        "status = end.code or 0", "status = end.code or 0\nexcept BaseException as end:\n    status = repr(end)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    seconds = []
    for _ in range(3):  # the best of three: others may be using the processor
        done = subprocess.run(
            [sys.executable, "-c", watched], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
        )
        status, used, loaded = json.loads(done.stderr.splitlines()[-1])
        assert status == ends  # the slides of the recipe have not been made here
        assert not {"torch", "monai", "skimage", "sklearn", "matplotlib"} & set(loaded)
        seconds.append(used)
        if used < 1:
            break
    assert min(seconds) < 1


@pytest.mark.slow
def test_predict_does_not_wait_for_what_only_training_uses() -> None:
    program = "import sys, cytoseg.commands.predict; print({'monai', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "cytoseg", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"cytoseg {__version__}\n", "")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    module = importlib.import_module(f"cytoseg.commands.{name.replace('-', '_')}")
    verbs = module.VERBS.items() if name in cli.GROUPS else [(None, module.run)]
    for verb, function in verbs:
        line = [name] if verb is None else [name, verb]
        result = CliRunner().invoke(cli.build_app(name), [*line, "--help"], env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
        documentation = inspect.getdoc(function)
        assert documentation is not None
        for sentence in documentation.split("\n"):
            assert sentence in " ".join(result.output.split()) or sentence in result.output
        for parameter in inspect.signature(function).parameters.values():
            assert getattr(parameter.annotation, "__metadata__", None) or str(parameter.annotation).count("Overrides")


def test_a_group_lists_its_verbs() -> None:
    result = CliRunner().invoke(cli.build_app("slides"), ["slides", "--help"])
    assert result.exit_code == 0
    assert "info" in result.output
    assert "generate" in result.output


def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(cli.build_app("train"), ["train"])
    assert result.exit_code == 2
    assert "No such command 'train'" in result.stderr
    close = CliRunner().invoke(cli.build_app("evaluat"), ["evaluat"])
    assert (close.exit_code, "Did you mean 'evaluate'?" in close.stderr) == (2, True)


def test_a_command_that_was_not_loaded_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="the chosen command was not loaded"):
        CliRunner().invoke(cli.build_app(None), ["doctor"], catch_exceptions=False)


def raising(error: BaseException) -> Callable[[], None]:
    def function() -> NoReturn:
        raise error

    return cli.one_line_errors(function)


def test_a_users_error_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        raising(SlideError("a.tif: is empty. Copy it again."))()
    assert end.value.code == 2
    assert capsys.readouterr() == ("", "cytoseg: a.tif: is empty. Copy it again.\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left", "x/run.json"),
            "cytoseg: x/run.json: No space left. Free some space.",
        ),
        (
            OSError(errno.EROFS, "Read-only"),
            "cytoseg: output folder: Read-only. Check the permissions of it and of its folder.",
        ),
        (
            OSError(errno.EACCES, "Denied", "/runs/r/.recipe.yaml.olg_qq34"),
            "cytoseg: /runs/r/recipe.yaml: Denied. Check the permissions of it and of its folder.",
        ),
        (
            OSError(errno.EACCES, "Denied", "runs/r/.4711.queue.png"),
            "cytoseg: runs/r/queue.png: Denied. Check the permissions of it and of its folder.",
        ),
        (
            OSError(errno.ENOTDIR, "No folder", "r/.x.toolong123"),
            "cytoseg: r/.x.toolong123: No folder. A folder is needed there. Move the file, or name another folder.",
        ),
        (
            FileExistsError(errno.EEXIST, "File exists", "runs/a"),  # by mkdir, where a file is
            "cytoseg: runs/a: File exists. A folder is needed there. Move the file, or name another folder.",
        ),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a\nb"), "cytoseg: a b: File name too long."),
        (
            OSError(errno.ENOTCONN, "Not connected", "share/a.tif"),  # a share of sshfs that died
            "cytoseg: share/a.tif: Not connected. Check that its disk or share is connected, then run the command "
            "again.",
        ),
        (
            OSError(errno.EBUSY, "Busy", "runs/r/.queue.old"),
            "cytoseg: runs/r/.queue.old: Busy. Close other programs that use it, then run the command again.",
        ),
        (OSError(errno.ENOLCK, "No locks available", "runs/r"), "cytoseg: runs/r: No locks available."),
        (OSError(errno.EXDEV, "Invalid cross-device link", "a"), "cytoseg: a: Invalid cross-device link."),
        (
            OSError(errno.EMFILE, "Too many open files"),
            "cytoseg: this process: Too many open files. Raise the limit of open files (ulimit -n).",
        ),
        (
            OSError(errno.ENOMEM, "Cannot allocate memory"),
            "cytoseg: this process: Cannot allocate memory. Close other programs, or use smaller images.",
        ),
        (
            OSError(errno.EAGAIN, "Unavailable"),  # fork
            "cytoseg: this process: Unavailable. Raise the limit of processes (ulimit -u).",
        ),
        (MemoryError(), "cytoseg: out of memory. Close other programs, or use smaller images."),
    ],
)
def test_a_full_or_forbidden_disk_is_one_line(error: OSError, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        raising(error)()
    assert end.value.code == 2
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.EBADF, "a bug")])
def test_a_bug_shows_its_trace(error: Exception) -> None:
    with pytest.raises(type(error), match="a bug"):
        raising(error)()


def test_ctrl_c_is_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        raising(KeyboardInterrupt())()
    assert end.value.code == 130
    assert "no file is half-written" in capsys.readouterr().err


@pytest.fixture
def _own_signals() -> Iterator[None]:
    """Take back what a command that ends does to the signals of this process."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.posix
@pytest.mark.usefixtures("_own_signals")
@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(130)])
def test_an_interrupt_is_the_last_signal_that_is_heard(end: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the libraries load, and later; the interpreter takes a second to end, and is not to be cut off in it."""

    def pressed(_name: str) -> NoReturn:
        raise end

    monkeypatch.setattr(sys, "argv", ["cytoseg", "doctor"])
    monkeypatch.setattr(importlib, "import_module", pressed)
    with pytest.raises(SystemExit) as found:
        cli.main()
    assert found.value.code == 130
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == [signal.SIG_IGN] * 2


@pytest.mark.usefixtures("_own_signals")
def test_other_ends_leave_signals_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cytoseg", "--version"])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as found:
        cli.main()
    assert (found.value.code, signal.getsignal(signal.SIGTERM)) == (0, before)


def test_a_terminal_without_columns_is_one_of_unknown_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setattr(sys, "argv", ["cytoseg", "--version"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "COLUMNS" not in os.environ


@pytest.mark.posix
def test_a_folder_that_was_removed_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Torch would abort when it is loaded there."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "cytoseg: the current folder: No such file or directory. Change to a folder that exists.\n"
    )
