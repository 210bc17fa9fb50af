"""Marker files of the commands that are running in a run folder."""

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cytoseg.errors import CytosegError
from cytoseg.records import RecordFile

if os.name == "nt":  # elsewhere the import of psutil would only cost time
    from cytoseg.process_table import exists

_PREFIX = ".running-"
_MAX_BYTES = 10_000
RUNNING, KILLED = "running", "killed"


@dataclass(frozen=True)
class Running:
    """A command that has not recorded its end.

    Attributes:
        command: Its name.
        recipe: Name of its recipe.
        started: Start time in ISO 8601.
        outcome: ``running``, or ``killed`` if its process no longer exists.
    """

    command: str
    recipe: str
    started: str
    outcome: str


@dataclass(frozen=True)
class _Marker:
    command: str
    recipe: str
    started: str
    host: str
    pid: int


_FILE = RecordFile(_Marker, CytosegError, "Remove it.", unnumbered=True)


@contextlib.contextmanager
def marked_running(folder: Path, command: str, *, recipe: str, started: str) -> Iterator[None]:
    """Keep a marker file in a run folder while a command runs; a failed write is ignored."""
    path = folder / f"{_PREFIX}{os.getpid()}.json"
    marker = _Marker(command, recipe, started, platform.node(), os.getpid())
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{_PREFIX}*.json"):
            if (found := _read(left)) is None or found.outcome == KILLED:
                left.unlink(missing_ok=True)
        path.write_text(json.dumps(_FILE.content_of(marker)), encoding="utf-8")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def running_in(folder: Path) -> list[Running]:
    """List the commands that have started in a run folder and not recorded their end, oldest first."""
    with contextlib.suppress(OSError):
        found = [entry for path in folder.glob(f"{_PREFIX}*.json") if (entry := _read(path)) is not None]
        return sorted(found, key=lambda entry: entry.started)
    return []


def running_names(folder: Path) -> tuple[str, ...]:
    """Return the names and states of the marker files, as a key for cached lists of runs."""
    with contextlib.suppress(OSError):
        return tuple(sorted(f"{path.name} {_is_alive(path)}" for path in folder.glob(f"{_PREFIX}*.json")))
    return ()


def _read(path: Path) -> Running | None:
    try:
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return None
    except OSError:
        return None
    found = _FILE.read_or_none(path)
    if found is None:
        return None
    alive = found.host != platform.node() or _is_alive(path)
    return Running(found.command[:200], found.recipe[:200], found.started[:200], RUNNING if alive else KILLED)


def _is_alive(path: Path) -> bool:
    """Return whether the process that a marker file is named after is alive on this machine."""
    digits = path.name.removeprefix(_PREFIX).removesuffix(".json")
    return digits.isdecimal() and int(digits) > 0 and is_process(int(digits))


def is_process(number: int) -> bool:
    """Return whether a process of this number lives on this machine."""
    if os.name == "nt":
        return exists(number)
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True
