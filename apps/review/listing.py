"""Cached list entries of runs and evaluations.

Stored as a few texts, because lists contain all runs, few of which are opened, and an evaluation may have thousands of
crops.
"""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from cytoseg.errors import CytosegError
from cytoseg.evaluation.results_file import read_evaluation, read_evaluation_file
from cytoseg.evaluation.run_folder import moment_of, read_provenance, time_text
from cytoseg.metrics.results import NOT_APPLICABLE, ensemble_of, share_text
from cytoseg.running import running_names

BASELINE = "forest"
"""Key of the baseline shown beside the ensemble in the list of runs."""
_KEPT = 4096
_LOG = logging.getLogger(__name__)


def row(run: Path) -> dict[str, str]:
    """Return the row of a run in the list of all runs, by column; a damaged run is marked."""
    try:
        with _damage_named(run):
            return dict(
                _row(
                    run,
                    _written_ns(run / "run.json"),
                    _written_ns(run / "evaluation" / "evaluation.json"),
                    running_names(run),
                )
            )
    except CytosegError:
        return _blank(run) | {"Outcome": "a file of this run is damaged", "Mean IoU": NOT_APPLICABLE}


def _blank(run: Path) -> dict[str, str]:
    row = {"Run": run.resolve().name, "Recipe": "-", "Last command": "-", "Outcome": "-", "Test": "-"}
    return row | {"Mean IoU": "not evaluated"}


@dataclass(frozen=True)
class Entry:
    """An evaluation in the list of those to compare with; ``moment`` is None if it does not say when it was made."""

    title: str
    moment: datetime | None


def entry(run: Path, path: Path) -> Entry:
    """Return the list entry of an evaluation.

    Args:
        run: The run folder.
        path: evaluation.json or a copy of it.

    Raises:
        CytosegError: If the file is damaged, incomplete, of another format or may not be read.
    """
    with _damage_named(run):
        return _entry(run, path, _written_ns(path))


@contextlib.contextmanager
def _damage_named(run: Path) -> Iterator[None]:
    """Convert any error with one run's files to a sentence, so that other runs are still listed.

    Raises:
        CytosegError: Instead of any exception.
    """
    try:
        yield
    except CytosegError:
        raise
    except Exception as error:
        _LOG.exception("run %s cannot be listed", run)
        raise CytosegError(f"A file of this run cannot be read ({type(error).__name__}).") from error


@lru_cache(maxsize=_KEPT)
def _row(run: Path, provenance_ns: int, evaluation_ns: int, _running: tuple[str, ...]) -> dict[str, str]:
    row, provenance, found = _blank(run), read_provenance(run), read_evaluation(run)
    if provenance is not None and provenance.commands:
        last = provenance.commands[-1]
        row |= {
            "Recipe": provenance.recipe,
            "Last command": f"{last.command}, {time_text(last.finished or last.started)}",
        }
        row["Outcome"] = last.outcome_text
    best = ensemble_of(found) if found is not None else None
    if found is None or best is None:
        return row
    row |= {"Test": f"{found.test_crops} crops, {found.test_slides} slides", "Mean IoU": best.miou.text()}
    forest = next((method for method in found.methods if method.key == BASELINE), None)
    row |= {"Mean IoU, random forest": forest.miou.text()} if forest is not None else {}
    return row | {f"IoU {scores.name}": scores.iou.text() for scores in best.classes}


@lru_cache(maxsize=_KEPT)
def _entry(run: Path, path: Path, written_ns: int) -> Entry:
    found = read_evaluation_file(path)
    best = ensemble_of(found)
    mean = NOT_APPLICABLE if best is None else share_text(best.miou.value)
    title = f"{run.resolve().name}, {time_text(found.created)}, mean IoU {mean}"
    return Entry(title, moment_of(found.created))


def _written_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # missing or unreadable, reported by the reader
        return 0
