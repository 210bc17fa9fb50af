"""Comparing methods with several seeds on the same crops: table and figure."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytoseg.csv_table import write_csv
from cytoseg.evaluation.evaluate import ScoredCrop, is_corrected
from cytoseg.evaluation.learning_curve import TESTED
from cytoseg.memory_use import peak_memory
from cytoseg.metrics.counts import confusion_counts
from cytoseg.metrics.results import Score, corrected_text
from cytoseg.metrics.segmentation import iou, pooled_scores
from cytoseg.studies.result_cache import StoredResult, are_counts, digest_of, read_result, result_file, write_result
from cytoseg.writing import atomic_path, write_atomically

_PANELS_ACROSS = 6
_BLUE = "#0072b2"
Predict = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""From a crop (H, W, 3) uint8 RGB to its class map (H, W) uint8."""


@dataclass(frozen=True)
class ComparedMethod:
    """One method of the comparison.

    Attributes:
        key: Short name in the files.
        title: Displayed name.
        fit: Trains it with a seed and returns the predictor.
        settings: Everything besides seed and crops that determines the result, as JSON.
        seeded: False if the result does not depend on the seed; it then runs once.
        about_s: Estimated seconds for training and scoring; 0 if unknown.
        scoring_s: Part of ``about_s`` for scoring alone.
    """

    key: str
    title: str
    fit: Callable[[int], Predict]
    settings: Mapping[str, Any]
    seeded: bool = True
    about_s: float = 0.0
    scoring_s: float = 0.0


@dataclass(frozen=True)
class Task:
    """Common task of the compared methods.

    Attributes:
        crops: The test crops.
        classes: The K class names.
        seeds: One training each.
        details: Everything that determines all results, as JSON: hashes of images and labels, device, versions.
        remark: Remark for readers of the table; may be empty.
    """

    crops: Sequence[ScoredCrop]
    classes: Sequence[str]
    seeds: Sequence[int]
    details: Mapping[str, Any]
    remark: str = ""

    @property
    def notes(self) -> str:
        """Return the notes below the table; may be empty."""
        return "\n\n".join(text for text in (self.note, self.remark) if text)

    @property
    def corrected(self) -> int:
        """Number of test crops whose truth was corrected from a prediction."""
        return sum(map(is_corrected, self.crops))

    @property
    def note(self) -> str:
        """Return a note on test crops corrected from a prediction; empty if none."""
        return corrected_text(self.corrected, len(self.crops))


@dataclass(frozen=True)
class StoredRun(StoredResult):
    """Result of one training.

    Attributes:
        title: Title of the method.
        seed: Seed of the training.
        fit_s: Time to train on the labelled crops, in seconds.
        predict_s: Mean time per test crop, in seconds.
        memory_mb: Peak host memory of the process, or None if not measured.
        counts: (K, K) confusion counts of each test crop.
    """

    title: str
    seed: int
    fit_s: float
    predict_s: float
    memory_mb: float | None
    counts: tuple[tuple[tuple[int, ...], ...], ...]


_RUN = result_file(StoredRun)


@dataclass(frozen=True)
class Row:
    """Results of one method.

    Attributes:
        key: Key of the method.
        title: Title of the method.
        seeds: Number of trainings.
        classes: Per class the IoU of all seeds pooled, with its interval over slides.
        spread: Minimum and maximum IoU over seeds per class; None if undefined.
        fit_s: Mean time to train on the labelled crops, in seconds.
        predict_s: Mean time per test crop, in seconds.
        memory_mb: Peak host memory of the process over its runs, or None if not measured.
    """

    key: str
    title: str
    seeds: int
    classes: tuple[Score, ...]
    spread: tuple[tuple[float, float] | None, ...]
    fit_s: float
    predict_s: float
    memory_mb: float | None


def compare(
    methods: Sequence[ComparedMethod],
    task: Task,
    *,
    folder: Path,
    on_run: Callable[[str, int, int], None] = lambda _title, _done, _total: None,
) -> list[Row]:
    """Train and score every method with every seed, reusing finished runs.

    Args:
        methods: The methods.
        task: The common task.
        folder: Takes runs/, compare.csv, compare.md, compare.png. Each run is stored as soon as it is done.
        on_run: Called before each run with its description, the number of runs done, and the total.

    Returns:
        One row per method, in their order.
    """
    wanted = runs_of(methods, task)
    runs: dict[str, list[StoredRun]] = {method.key: [] for method in methods}
    for done, (method, seed) in enumerate(wanted):
        on_run(method.title, done, len(wanted))
        path = result_path(folder, method, seed)
        runs[method.key].append(run_or_reuse(method, seed, task, path=path))
    on_run("done", len(wanted), len(wanted))
    rows = [_row(method, runs[method.key], task) for method in methods]
    write_csv(folder / "compare.csv", _table(rows, task))
    write_atomically(folder / "compare.md", as_markdown(rows, task.classes, note=task.notes))
    with atomic_path(folder / "compare.png") as path:
        _draw(rows, task.classes, note=task.note).savefig(path, dpi=120)
    return rows


def runs_of(methods: Sequence[ComparedMethod], task: Task) -> list[tuple[ComparedMethod, int]]:
    """List the trainings of a comparison in order, each a method with a seed."""
    return [(c, seed) for c in methods for seed in (task.seeds if c.seeded else task.seeds[:1])]


def result_path(folder: Path, method: ComparedMethod, seed: int) -> Path:
    """Return the result file of a training."""
    return folder / "runs" / f"{method.key}-{seed}.json"


def seconds_each(methods: Sequence[ComparedMethod], task: Task, folder: Path) -> list[float]:
    """Estimate the seconds of each training of ``compare`` in order, 0 for finished ones.

    Args:
        methods: As for ``compare``.
        task: As for ``compare``.
        folder: As for ``compare``.
    """
    return [
        0.0 if stored_run(method, seed, task, path=result_path(folder, method, seed)) else method.about_s
        for method, seed in runs_of(methods, task)
    ]


def run_or_reuse(method: ComparedMethod, seed: int, task: Task, *, path: Path) -> StoredRun:
    """Train and score once, or return the stored result for the same inputs.

    Args:
        method: The method.
        seed: Seed of the training.
        task: The common task.
        path: The JSON result file.
    """
    found = stored_run(method, seed, task, path=path)
    return found or write_result(path, _run(method, seed, task, digest=_digest(method, seed, task)), _RUN)


def stored_run(method: ComparedMethod, seed: int, task: Task, *, path: Path) -> StoredRun | None:
    """Return the stored result of a training with these inputs, or None; parameters as in ``run_or_reuse``."""
    found = read_result(path, _digest(method, seed, task), _RUN)
    fits = found is not None and len(found.counts) == len(task.crops) and are_counts(found.counts, len(task.classes))
    return found if fits else None


def _digest(method: ComparedMethod, seed: int, task: Task) -> str:
    decides = {"task": dict(task.details), "settings": dict(method.settings), "seed": seed}
    return digest_of(decides | {"test": [crop.crop for crop in task.crops], "classes": list(task.classes)})


def _run(method: ComparedMethod, seed: int, task: Task, *, digest: str) -> StoredRun:
    counts, predict_s = [], 0.0
    with peak_memory() as peak:
        begin = time.perf_counter()
        predict = method.fit(seed)
        fit_s = time.perf_counter() - begin
        for crop in task.crops:
            picture = crop.picture()
            begin = time.perf_counter()
            class_map = predict(picture)
            predict_s += time.perf_counter() - begin
            counts.append(confusion_counts(crop.label_map(), class_map, len(task.classes)).tolist())
    each_s, kept = predict_s / len(task.crops), tuple(tuple(tuple(row) for row in crop) for crop in counts)
    return StoredRun(digest, method.title, seed, fit_s, each_s, peak.mb, kept)


def _row(method: ComparedMethod, runs: Sequence[StoredRun], task: Task) -> Row:
    counts = np.array([run.counts for run in runs], np.int64)  # (seeds, crops, K, K)
    slides = [crop.slide for crop in task.crops]
    by_slide = [counts[:, [s == slide for s in slides]].sum(axis=(0, 1)) for slide in sorted(set(slides))]
    scores, _ = pooled_scores(np.stack(by_slide), task.classes, seed=task.seeds[0])
    each = iou(counts.sum(axis=1))
    memory = [run.memory_mb for run in runs if run.memory_mb is not None]
    return Row(
        method.key,
        method.title,
        len(runs),
        tuple(score.iou for score in scores),
        tuple(None if np.isnan(k).any() else (float(k.min()), float(k.max())) for k in each.T),
        float(np.mean([run.fit_s for run in runs])),
        float(np.mean([run.predict_s for run in runs])),
        max(memory) if memory else None,
    )


def as_markdown(rows: Sequence[Row], names: Sequence[str], *, note: str = "") -> str:
    """Format the table in Markdown, best method first.

    Args:
        rows: From ``compare``.
        names: The K class names.
        note: Notes on the test crops or the methods.

    Returns:
        A Markdown table with a legend.
    """
    head = ["method", *(f"IoU {name}" for name in names), "seeds", "training, s", "s per crop", "host memory, MB"]
    lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in head)} |", "|---" * len(head) + "|"]
    for row in sorted(rows, key=_mean_iou, reverse=True):
        cells = [_cell(score, spread) for score, spread in zip(row.classes, row.spread, strict=True)]
        memory = "n/a" if row.memory_mb is None else f"{row.memory_mb:.0f}"
        rest = [str(row.seeds), f"{row.fit_s:.0f}", f"{row.predict_s:.2f}", memory]
        lines.append(f"| {' | '.join([row.title, *cells, *rest])} |")
    return "\n".join([*lines, "", _NOTE, *([f"\n{note}"] if note else []), ""])


_NOTE = (
    "IoU (95 % interval over slides) [minimum and maximum over the seeds]. Training time is that on the labelled "
    "crops and excludes the diffusion model's own. Memory is the peak of the whole process, including libraries "
    "and crops."
)


def _mean_iou(row: Row) -> float:
    found = [score.value for score in row.classes if score.value is not None]
    return sum(found) / max(1, len(found))


def _cell(score: Score, spread: tuple[float, float] | None) -> str:
    if score.value is None:
        return score.text()
    interval = "" if score.low is None or score.high is None else f" ({score.low:.3f}-{score.high:.3f})"
    of_seeds = "" if spread is None or spread[0] == spread[1] else f" [{spread[0]:.3f}-{spread[1]:.3f}]"
    return f"{score.value:.3f}{interval}{of_seeds}"


def _table(rows: Sequence[Row], task: Task) -> Iterator[list[Any]]:
    columns = ("iou", "low", "high", "least", "greatest")
    measured = ("seeds", "fit_s", "predict_s", "memory_mb")
    scores = [f"{name} {column}" for name in task.classes for column in columns]
    yield ["method", "title", *scores, *measured, *TESTED]
    for row in rows:
        values: list[Any] = [row.key, row.title]
        for score, spread in zip(row.classes, row.spread, strict=True):
            values += [score.value, score.low, score.high, *(spread or (None, None))]
        yield [*values, *(getattr(row, name) for name in measured), len(task.crops), task.corrected]


def _draw(rows: Sequence[Row], names: Sequence[str], *, note: str) -> Figure:
    """Plot a panel per class: pooled IoU with its interval over slides, and the range over seeds as a thick bar."""
    across = min(len(names), _PANELS_ACROSS)
    down = math.ceil(len(names) / across)
    figure = Figure(figsize=(3 * across + 3, down * (0.4 * len(rows) + 1.2)), layout="constrained")
    panels = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    for k, (panel, name) in enumerate(zip(panels, names, strict=False)):
        _draw_class(panel, rows, k)
        panel.set_title(name, parse_math=False)
    for panel in panels[len(names) :]:
        panel.remove()
    if note:
        figure.suptitle(note.partition(":")[0], parse_math=False, fontsize="medium")
    return figure


def _draw_class(panel: Axes, rows: Sequence[Row], k: int) -> None:
    places = list(range(len(rows)))[::-1]
    for place, row in zip(places, rows, strict=True):
        score, spread = row.classes[k], row.spread[k]
        if score.low is not None and score.high is not None:
            panel.plot([score.low, score.high], [place, place], color=_BLUE, linewidth=1)
        if spread is not None:
            panel.plot(spread, [place, place], color=_BLUE, linewidth=4)
        if score.value is not None:
            panel.plot(score.value, place, "o", color=_BLUE)
    panel.set(xlabel="IoU", xlim=(0, 1), yticks=places, yticklabels=[row.title for row in rows])
    panel.grid(axis="x", alpha=0.3)
