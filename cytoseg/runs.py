"""The run folder: records of commands, versions and outcomes, and the metrics log."""

import contextlib
import datetime
import functools
import importlib.metadata
import itertools
import json
import math
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import cytoseg
from cytoseg.distributed import process_rank
from cytoseg.errors import CytosegError
from cytoseg.interrupts import errors_as_interrupt
from cytoseg.json_text import load_json, parse_json
from cytoseg.locks import locked
from cytoseg.records import RecordFile
from cytoseg.running import marked_running
from cytoseg.writing import write_atomically

_MAX_MESSAGE = 400
_WAIT_S = 30.0
"""Seconds to wait for other commands that are writing run.json."""
_VERSIONED = ("torch", "monai", "denoising-diffusion-pytorch", "numpy", "tifffile", "scikit-image", "scikit-learn")


@dataclass(frozen=True)
class CommandRecord:
    """One recorded command of a run; missing texts are empty, missing numbers None."""

    command: str = ""
    started: str = ""
    finished: str = ""
    seconds: float | None = None
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    outcome: str = ""
    message: str = ""

    @property
    def outcome_text(self) -> str:
        """Its outcome with the error: ``failed: no slide in smears``."""
        return f"{self.outcome}: {self.message}" if self.message else self.outcome


@dataclass(frozen=True)
class Provenance:
    """The recipe's name and all commands of a run, oldest first."""

    recipe: str = ""
    commands: tuple[CommandRecord, ...] = ()


RUN_FILE = RecordFile(
    Provenance,
    CytosegError,
    "Run the command that writes it again.",
    other_format="format {found} was found, this version reads format {format}",
    not_json="the file is not complete JSON",
)


def versions() -> dict[str, str]:
    """List the versions that affect results: ours, Python's and the main libraries'."""
    return {"cytoseg": cytoseg.__version__, "python": platform.python_version(), **dict(_library_versions())}


@functools.cache
def _library_versions() -> tuple[tuple[str, str], ...]:
    """Read the versions once: all installed packages are searched for each name."""
    found = []
    for name in _VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append((name, importlib.metadata.version(name)))
    return tuple(found)


@contextlib.contextmanager
def recorded(folder: Path, command: str, *, recipe: str, seed: int) -> Iterator[dict[str, Any]]:
    """Record one command in ``run.json``: start, end, seconds, seed, versions and outcome.

    Only rank 0 records.

    Args:
        folder: The run folder; made if missing.
        command: Name of the command.
        recipe: Name of the recipe.
        seed: The recipe's seed.

    Yields:
        Details of the command; what the block adds is saved beside the ``CommandRecord``.
    """
    details: dict[str, Any] = {}
    record = CommandRecord(command, _now(), seed=seed, versions=versions(), outcome="failed")
    begin = time.perf_counter()
    try:
        with errors_as_interrupt(), _marked_running(folder, record, recipe=recipe):
            yield details
        record = replace(record, outcome="finished")
    except KeyboardInterrupt:
        record = replace(record, outcome="interrupted")
        raise
    except Exception as error:
        record = replace(record, message=_one_line(error))
        raise
    finally:
        record = replace(record, finished=_now(), seconds=round(time.perf_counter() - begin, 2))
        if process_rank() == 0:
            _append(folder / "run.json", record, details, recipe=recipe)


def _marked_running(folder: Path, record: CommandRecord, *, recipe: str) -> contextlib.AbstractContextManager[None]:
    if process_rank() > 0:
        return contextlib.nullcontext()
    return marked_running(folder, record.command, recipe=recipe, started=record.started)


def _one_line(error: Exception) -> str:
    """Return the reason of a failure in one printable line."""
    first = next(iter(str(error).splitlines()), "") if isinstance(error, CytosegError) else ""
    text = first or f"{type(error).__name__}: {error}"
    return "".join(c if c.isprintable() else " " for c in text)[:_MAX_MESSAGE]


def _append(path: Path, record: CommandRecord, details: Mapping[str, Any], *, recipe: str) -> None:
    new = {**RUN_FILE.content_of(Provenance(recipe)), "commands": []}
    entry = {key: value for key, value in asdict(record).items() if key != "message" or value}
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path, wait_s=_WAIT_S, error=CytosegError):
        run = _readable(path) or new
        run["commands"].append({**entry, **details})
        write_atomically(path, json.dumps(run, indent=1))


def _readable(path: Path) -> dict[str, Any] | None:
    """Read run.json; a damaged one is renamed so that later commands can be recorded."""
    try:
        run = load_json(path)
        if isinstance(run, dict) and isinstance(run.get("commands"), list):
            return run
    except FileNotFoundError:
        return None
    except ValueError:
        pass  # kept below
    path.replace(_free_name(path))
    return None


def _free_name(path: Path) -> Path:
    """Return ``run.json.damaged``, or the first of ``run.json.damaged-2``, ``-3``, ... that is free."""
    names = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    return next(free for more in names if not (free := path.with_name(f"{path.name}.damaged{more}")).exists())


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class MetricsLog:
    """Appends one JSON object per line to ``metrics.jsonl``, flushed at once so that a killed run keeps its log.

    Args:
        path: The file; its folder is made if missing.
        keep_until: On resuming, rows with a larger count are dropped: they will be written again.
        count: What is counted, ``crops_seen`` or ``step``.
    """

    def __init__(self, path: Path, *, keep_until: int | None = None, count: str = "crops_seen") -> None:
        kept = [] if keep_until is None else [r for r in read_metrics(path) if _count_of(r, count) <= keep_until]
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._path = path
        self._file: TextIO = path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row; create the file if it was removed."""
        if not self._path.exists():
            self._file.close()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", encoding="utf-8")
        self._file.write(json.dumps(dict(row)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _count_of(row: Mapping[str, Any], count: str) -> float:
    """Return the count of a row, 0 without one; infinite if it is not numeric, as in a damaged file."""
    found = row.get(count, 0)
    return found if isinstance(found, int | float) else math.inf


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``; an incomplete last line is dropped, a missing file gives an empty list."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        with contextlib.suppress(ValueError):
            rows.append(parse_json(line, name=path.name))
    return [row for row in rows if isinstance(row, dict)]
