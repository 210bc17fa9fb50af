"""Methods trained on the same crops with several seeds, scored on the same test crops: one table, one figure."""

import csv
import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytoseg.metrics.counts import confusion_counts
from cytoseg.metrics.results import Score
from cytoseg.metrics.segmentation import iou, pooled_scores
from cytoseg.predict.evaluate import ScoredCrop
from cytoseg.studies.memory import peak_memory
from cytoseg.writing import atomic_path, write_atomically

Predict = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""From a crop (H, W, 3) uint8 RGB to its class map (H, W) uint8."""


@dataclass(frozen=True)
class Contender:
    """One method of the comparison.

    Attributes:
        key: Short name in the files.
        title: Name for people.
        fit: Trains it with a seed and gives what predicts.
        settings: What decides the result beside seed and crops, for JSON.
        seeded: False where every seed gives the same; it then runs once.
    """

    key: str
    title: str
    fit: Callable[[int], Predict]
    settings: Mapping[str, Any]
    seeded: bool = True


@dataclass(frozen=True)
class Row:
    """What one method reached.

    Attributes:
        key: Of the contender.
        title: Of the contender.
        seeds: How often it was trained.
        classes: Per class the IoU of all seeds pooled, with its interval over slides.
        spread: Per class the least and the greatest IoU of one seed; None where the class does not apply.
        fit_s: Mean time to train, in seconds.
        predict_s: Mean time per test crop, in seconds.
        memory_mb: Most memory of the process in any of its runs, or None where it could not be measured.
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
    contenders: Sequence[Contender],
    crops: Sequence[ScoredCrop],
    *,
    classes: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    details: Mapping[str, Any],
    on_run: Callable[[str, int, int], None] = lambda _title, _done, _total: None,
) -> list[Row]:
    """Train and score every contender with every seed; what an earlier call has finished is not done again.

    Args:
        contenders: The methods.
        crops: The test crops.
        classes: The K class names.
        seeds: One training each.
        folder: Takes runs/, compare.csv, compare.md, compare.png. Each run is kept as soon as it is done.
        details: What decides all results: hashes of labels and weights; for JSON.
        on_run: Told before each run what begins, how many runs are done, and how many there are.

    Returns:
        One row per contender, in their order.
    """
    wanted = [(contender, seed) for contender in contenders for seed in (seeds if contender.seeded else seeds[:1])]
    runs: dict[str, list[dict[str, Any]]] = {contender.key: [] for contender in contenders}
    for done, (contender, seed) in enumerate(wanted):
        on_run(contender.title, done, len(wanted))
        runs[contender.key].append(_run(contender, seed, crops, len(classes), folder=folder, details=details))
    on_run("done", len(wanted), len(wanted))
    slides = [crop.slide for crop in crops]
    rows = [_row(contender, runs[contender.key], slides, classes, seed=seeds[0]) for contender in contenders]
    write_atomically(folder / "compare.csv", _as_csv(rows, classes))
    write_atomically(folder / "compare.md", as_markdown(rows, classes))
    with atomic_path(folder / "compare.png") as path:
        _draw(rows, classes).savefig(path, dpi=120)
    return rows


def _run(
    contender: Contender,
    seed: int,
    crops: Sequence[ScoredCrop],
    classes: int,
    *,
    folder: Path,
    details: Mapping[str, Any],
) -> dict[str, Any]:
    """Train and score once, or give what an earlier call found from exactly the same things."""
    decides = {**details, "settings": dict(contender.settings), "seed": seed, "test": [crop.crop for crop in crops]}
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    path = folder / "runs" / f"{contender.key}-{seed}.json"
    found = _read(path)
    if found is not None and found.get("digest") == digest:
        return found
    with peak_memory() as peak:
        begin = time.perf_counter()
        predict = contender.fit(seed)
        fitted = time.perf_counter()
        counts = [confusion_counts(crop.label_map(), predict(crop.picture()), classes).tolist() for crop in crops]
        ended = time.perf_counter()
    run = {
        "digest": digest,
        "title": contender.title,
        "seed": seed,
        "fit_s": fitted - begin,
        "predict_s": (ended - fitted) / len(crops),
        "memory_mb": peak.mb,
        "counts": counts,
    }
    write_atomically(path, json.dumps(run) + "\n")
    return run


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _row(
    contender: Contender, runs: Sequence[Mapping[str, Any]], slides: Sequence[str], names: Sequence[str], *, seed: int
) -> Row:
    counts = np.array([run["counts"] for run in runs], np.int64)  # (seeds, crops, K, K)
    by_slide = [counts[:, [s == slide for s in slides]].sum(axis=(0, 1)) for slide in sorted(set(slides))]
    scores, _ = pooled_scores(np.stack(by_slide), names, seed=seed)
    each = iou(counts.sum(axis=1))
    memory = [run["memory_mb"] for run in runs if run["memory_mb"] is not None]
    return Row(
        contender.key,
        contender.title,
        len(runs),
        tuple(score.iou for score in scores),
        tuple(None if np.isnan(k).any() else (float(k.min()), float(k.max())) for k in each.T),
        float(np.mean([run["fit_s"] for run in runs])),
        float(np.mean([run["predict_s"] for run in runs])),
        max(memory) if memory else None,
    )


def as_markdown(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Write the table for people: IoU (95 % interval over slides) [range over seeds], times and memory."""
    head = ["method", *(f"IoU {name}" for name in names), "seeds", "training, s", "s per crop", "memory, MB"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [_cell(score, spread) for score, spread in zip(row.classes, row.spread, strict=True)]
        memory = "n/a" if row.memory_mb is None else f"{row.memory_mb:.0f}"
        rest = [str(row.seeds), f"{row.fit_s:.0f}", f"{row.predict_s:.2f}", memory]
        lines.append(f"| {' | '.join([row.title, *cells, *rest])} |")
    return "\n".join([*lines, "", "IoU (95 % interval over slides) [least and greatest of the seeds]", ""])


def _cell(score: Score, spread: tuple[float, float] | None) -> str:
    if score.value is None or score.low is None or score.high is None:
        return score.text()
    of_seeds = "" if spread is None or spread[0] == spread[1] else f" [{spread[0]:.3f}-{spread[1]:.3f}]"
    return f"{score.value:.3f} ({score.low:.3f}-{score.high:.3f}){of_seeds}"


def _as_csv(rows: Sequence[Row], names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("iou", "low", "high", "least", "greatest")
    measured = ("seeds", "fit_s", "predict_s", "memory_mb")
    writer.writerow(["method", "title", *(f"{name} {column}" for name in names for column in columns), *measured])
    for row in rows:
        values: list[Any] = [row.key, row.title]
        for score, spread in zip(row.classes, row.spread, strict=True):
            values += [score.value, score.low, score.high, *(spread or (None, None))]
        writer.writerow([*values, *(getattr(row, name) for name in measured)])
    return text.getvalue()


def _draw(rows: Sequence[Row], names: Sequence[str]) -> Figure:
    """Plot a panel per class: the pooled IoU with its interval over slides, and the range over seeds as a thick bar."""
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(3 * len(names) + 3, 0.4 * len(rows) + 1.2), layout="constrained")
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        places = list(range(len(rows)))[::-1]
        for k, (panel, name) in enumerate(zip(panels, names, strict=True)):
            for place, row in zip(places, rows, strict=True):
                score, spread = row.classes[k], row.spread[k]
                if score.low is not None and score.high is not None:
                    panel.plot([score.low, score.high], [place, place], color="#0072b2", linewidth=1)
                if spread is not None:
                    panel.plot(spread, [place, place], color="#0072b2", linewidth=4)
                if score.value is not None:
                    panel.plot(score.value, place, "o", color="#0072b2")
            panel.set(title=name, xlabel="IoU", xlim=(0, 1), yticks=places, yticklabels=[row.title for row in rows])
            panel.grid(axis="x", alpha=0.3)
    return figure
