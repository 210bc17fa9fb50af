"""``cytoseg runs``: a table of the runs in a folder."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cytoseg.duration_text import duration_text
from cytoseg.errors import CytosegError, RecipeError
from cytoseg.evaluation.run_folder import find_runs, read_provenance
from cytoseg.json_text import parse_json
from cytoseg.recipe import recipe_of_run
from cytoseg.running import KILLED, RUNNING
from cytoseg.runs import CommandRecord, Provenance
from cytoseg.slides.regular_file import check_disk_answers
from cytoseg.terminal import cells, console, say, say_next

SILENT_S = 600.0
"""Seconds without writes after which a command without a recorded end no longer counts as running."""
_WRITTEN_BEFORE_THE_END = ("recipe.yaml", "ddpm/metrics.jsonl", "interpreter/metrics.jsonl")
_TAIL_BYTES = 65_536


def run(folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Folder of runs.")] = Path("runs")) -> None:
    """List runs: recipe, state, crops seen, last loss, size on disk.

    The latest run is first. The state is the outcome of the last command (of the last two if it failed after one that
    finished), running, or silent since the last write of a command without a recorded end, which is slow or was killed.
    Damaged runs are listed below the table.
    """
    check_disk_answers(folder, error_class=CytosegError)
    if not folder.is_dir():
        raise CytosegError(
            f"{folder}: no such folder. Give the folder of your runs; the first command on a recipe makes it "
            "(`cytoseg recipe new` writes one)."
        )
    table, problems = Table("run", "recipe", "state", "crops seen", "last loss", "size"), []
    for path in find_runs(folder):
        try:
            provenance = read_provenance(path)
            recipe = provenance.recipe if provenance else _recipe_name(path)
            state = state_text(path, provenance, now=time.time())
        except (CytosegError, OSError) as error:
            provenance, recipe, state = None, "-", "damaged"
            problems.append(f"Damaged: {error}")
        if provenance and provenance.commands and provenance.commands[-1].message:
            problems.append(f"{path.name}: {state}: {provenance.commands[-1].message}")
        row = last_row(path / "ddpm" / "metrics.jsonl")
        crops_seen, loss = (f"{row['crops_seen']:,}", f"{row['loss']:.4f}") if row else ("-", "-")
        table.add_row(*cells(path.name, recipe, state, crops_seen, loss, size_text(sum(_sizes(path)))))
    if table.row_count:
        console.print(table)
        say_next("review", "RECIPE")
    else:
        say(f"{folder}: no runs yet. The first command on a recipe makes one.")
    for problem in problems:
        say(problem)


def _recipe_name(folder: Path) -> str:
    """Read the recipe's name from the copy in a run."""
    try:
        return recipe_of_run(folder).name
    except RecipeError as error:
        raise RecipeError(f"{folder / 'recipe.yaml'}: not YAML, or not a recipe of this version.") from error


def state_text(folder: Path, provenance: Provenance | None, *, now: float) -> str:
    """Describe what a run is doing or how its last command ended.

    Args:
        folder: The run folder.
        provenance: Content of its run.json, which a command writes when it ends; None if there is none.
        now: Current time in seconds since 1970.
    """
    written = max(
        (path.stat().st_mtime for path in (folder / name for name in _WRITTEN_BEFORE_THE_END) if path.exists()),
        default=0.0,
    )
    last = provenance.commands[-1] if provenance and provenance.commands else None
    if last is not None and last.outcome in (RUNNING, KILLED):
        return f"{last.command} {last.outcome}"
    if last is not None and provenance is not None and not _began_since(folder / "run.json", last, written):
        return _last_outcome(provenance.commands)
    return "running" if now - written < SILENT_S else f"silent for {duration_text(now - written)}"


def _last_outcome(commands: Sequence[CommandRecord]) -> str:
    """Describe how the last command ended; if it failed, after which one the run was in order."""
    last = commands[-1]
    finished = next((command.command for command in reversed(commands) if command.outcome == "finished"), None)
    before = f"{finished} finished, then " if last.outcome == "failed" and finished else ""
    return f"{before}{last.command} {last.outcome}"


def _began_since(record: Path, last: CommandRecord, written: float) -> bool:
    """Return whether a command has started since the last one ended; False for a copied run."""
    try:
        ended = datetime.fromisoformat(last.finished).timestamp()
    except ValueError:
        return False
    recorded = record.stat().st_mtime
    return abs(recorded - ended) < 2.0 and written > recorded


def last_row(path: Path) -> dict[str, Any] | None:
    """Read the last row of a ``metrics.jsonl`` that has crops seen and loss; None if there is none.

    Only the file's end is read: the log of a long training has a hundred megabytes.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    for line in reversed(lines):
        with contextlib.suppress(ValueError):  # truncated by a kill or by the seek above
            row = parse_json(line, name=path.name)
            if isinstance(row, dict) and _is_number(row.get("crops_seen")) and _is_number(row.get("loss")):
                return row
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def size_text(size_bytes: float) -> str:
    """Format a number of bytes: ``812 B``, ``3.4 kB``, ``120 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 999.5:
            return f"{size_bytes:.1f} {unit}" if size_bytes < 9.95 and unit != "B" else f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a running training removes old checkpoints
            if path.is_file() and not path.is_symlink():
                yield path.stat().st_size
