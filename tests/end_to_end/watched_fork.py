"""A command in a fork of this process, watched: what is done before each of its changes of files is up to the test."""

import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from typer.testing import Result

from cytoseg.interrupts import INTERRUPTED, end_signals_as_ctrl_c

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.copytree", "shutil.copyfile")
WRITES = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Change:
    """A change of files that is about to be made: its number from 1, and the audit event with its arguments."""

    number: int
    event: str
    arguments: tuple[Any, ...]

    @property
    def path(self) -> Path:
        """What is changed first."""
        return Path(os.path.abspath(os.fsdecode(self.arguments[0])))

    @property
    def makes(self) -> bool:
        """Whether a file or folder is made or written, not renamed or removed."""
        return self.event in ("open", "os.mkdir") or self.event.startswith("shutil")


OnChange = Callable[[Change], None]


@dataclass(frozen=True)
class Ended:
    """How a command has ended: its exit status, negative after a kill, which leaves the rest empty."""

    status: int
    changes: int = 0
    said: str = ""


def run_watched(
    command: Callable[[], Result], told: Path, on_change: OnChange, *, begin: Callable[[], None] | None = None
) -> Ended:
    """Run a command in a fork of this process.

    Args:
        command: The command.
        told: File for what it says, outside of what it may change.
        on_change: Called in the fork before each change; may raise an OSError, which the command then gets.
        begin: Called in the fork first.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads
        process = os.fork()
    if process == 0:
        _be_command(command, told, on_change, begin)
    _, ended = os.waitpid(process, 0)
    status = os.waitstatus_to_exitcode(ended)
    return Ended(status) if status < 0 else Ended(status, *json.loads(told.read_text()))


def _be_command(
    command: Callable[[], Result], told: Path, on_change: OnChange, begin: Callable[[], None] | None
) -> NoReturn:
    count, status, said, deaf = 0, 1, "", False

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count, deaf
        if not deaf and _is_change(event, arguments):
            count, deaf = count + 1, True  # what a test does is no change of the command
            try:
                on_change(Change(count, event, arguments))
            finally:
                deaf = False

    sys.addaudithook(watch)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with end_signals_as_ctrl_c():
            if begin is not None:
                begin()
            result = command()
        status, said = result.exit_code, result.output
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BaseException:
        said = traceback.format_exc()
    finally:
        deaf = True
        _lift_limit()
        told.write_text(json.dumps([count, said]))
        os._exit(status)


def limit_files(most_bytes: int) -> None:
    """Let no file of this process grow beyond a size, as on a full disk."""
    import resource  # POSIX only

    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))


def _lift_limit() -> None:
    import resource  # POSIX only

    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        return isinstance(arguments[0], str) and bool(flags & WRITES)
    return event in CHANGES
