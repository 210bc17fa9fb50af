"""Label efficiency: IoU against labelled crops, table and figure."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cytoseg.csv_table import Numeral, write_csv
from cytoseg.errors import LabelError
from cytoseg.evaluation.learning_curve import MIN_COUNTS, MORE, TABLE, TESTED, Curve, as_curve, worth
from cytoseg.metrics.segmentation import iou
from cytoseg.studies.compare import ComparedMethod, Task, run_or_reuse, stored_run
from cytoseg.writing import atomic_path, write_atomically

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@dataclass(frozen=True)
class Draw:
    """A random subset of the train crops.

    Attributes:
        number: Index of the draw; a smaller count is a subset of a larger one.
        crops: Indices of the crops.
    """

    number: int
    crops: tuple[int, ...]


def draw_crops(usable: Sequence[bool], *, counts: Sequence[int], draws: int, seed: int) -> list[Draw]:
    """Draw random orders of crops and take the first ones of each.

    Args:
        usable: Whether each train crop has two classes, which is required of the first one.
        counts: Numbers of crops; larger ones than available are dropped, all crops are always included.
        draws: Number of orders.
        seed: Seed of the orders.

    Returns:
        One per order and count, smaller counts first.

    Raises:
        LabelError: If no crop has two classes.
    """
    first = np.flatnonzero(usable)
    if not first.size:
        raise LabelError("study label-efficiency: no train crop shows two classes. Annotate more.")
    sizes = sorted({*(n for n in counts if n < len(usable)), len(usable)})
    orders = []
    for number in range(draws):
        rng = np.random.default_rng((seed, number))
        order = rng.permutation(len(usable))
        begin = rng.choice(first)
        orders.append([int(begin), *(int(i) for i in order if i != begin)])
    return [Draw(number, tuple(order[:n])) for n in sizes for number, order in enumerate(orders)]


def label_efficiency(
    methods_of: Callable[[Draw], Sequence[ComparedMethod]],
    task: Task,
    *,
    draws: Sequence[Draw],
    folder: Path,
    on_run: Callable[[str, int, int], None] = lambda _title, _done, _total: None,
) -> dict[str, Curve]:
    """Train and score every method on every draw, reusing finished runs.

    Args:
        methods_of: Returns the methods for a draw's crops.
        task: The test crops; a draw is trained with the first seed plus its number.
        draws: From ``draw_crops``.
        folder: Takes runs/, label_efficiency.csv, .md and .png.
        on_run: Called before each training with its description, the number done, and the total.

    Returns:
        A curve per method, by key.
    """
    scores: dict[str, dict[tuple[int, int], list[float]]] = {}
    titles: dict[str, str] = {}
    trainings = [(draw, method) for draw in draws for method in methods_of(draw)]
    for done, (draw, method) in enumerate(trainings):
        crops = f"{len(draw.crops)} crop{'s' * (len(draw.crops) != 1)}"
        on_run(f"{method.title}, {crops}, draw {draw.number + 1}", done, len(trainings))
        run = run_or_reuse(method, **_inputs(draw, method, task, folder))
        pooled = iou(np.sum(run.counts, axis=0, dtype=np.int64))
        scores.setdefault(method.key, {})[len(draw.crops), draw.number] = pooled.tolist()
        titles[method.key] = method.title
    on_run("done", len(trainings), len(trainings))
    curves = {key: as_curve(titles[key], found) for key, found in scores.items()}
    _write(curves, task, folder)
    return curves


def seconds_each(
    methods_of: Callable[[Draw], Sequence[ComparedMethod]], task: Task, *, draws: Sequence[Draw], folder: Path
) -> list[float]:
    """Estimate the seconds of each training in order, 0 for finished ones; parameters as in ``label_efficiency``."""
    return [
        0.0 if stored_run(method, **_inputs(draw, method, task, folder)) else method.about_s
        for draw in draws
        for method in methods_of(draw)
    ]


def _inputs(draw: Draw, method: ComparedMethod, task: Task, folder: Path) -> dict[str, Any]:
    """Return the seed, the task and the result file of a training."""
    return {
        "seed": task.seeds[0] + draw.number,
        "task": replace(task, details={**task.details, "drawn": list(draw.crops)}),
        "path": folder / "runs" / f"{method.key}-{len(draw.crops)}-{draw.number}.json",
    }


def sentences(curves: Mapping[str, Curve], names: Sequence[str]) -> list[str]:
    """Return per method and class the current IoU and the expected gain from more crops.

    If there is no estimate for several, one sentence says why; the table has their IoU.
    """
    scored = [
        (curve, k, worth(curve, k))
        for curve in curves.values()
        for k in range(len(names))
        if not np.isnan(curve.iou[-1, :, k]).any()
    ]
    without = [curve for curve, _, gain in scored if gain is None]
    if len(without) < 2:
        return [_sentence(curve, k, names[k], gain) for curve, k, gain in scored]
    found = [_sentence(curve, k, names[k], gain) for curve, k, gain in scored if gain is not None]
    which = "" if len(without) == len(scored) else f"For {len(without)} of {len(scored)} curves there is no"
    return [*found, f"{which or 'No'}{_why_not(without[0])}"]


def _why_not(curve: Curve) -> str:
    least = math.ceil(curve.counts[-1] / 4)
    return (
        f" estimate of the gain from the next {MORE}: it needs {MIN_COUNTS} values of --counts from {least} on in "
        "which the class can be scored."
    )


def _sentence(curve: Curve, k: int, name: str, gain: tuple[float, float, float] | None) -> str:
    reached = f"{curve.title}, {name}: {curve.counts[-1]} crops reach IoU {curve.iou[-1, :, k].mean():.3f}"
    if gain is None:
        return f"{reached}; no{_why_not(curve)}"
    return (
        f"{reached}; the next {MORE} would add about {gain[0]:+.3f} ({gain[1]:+.3f} to {gain[2]:+.3f} over the draws)."
    )


def _write(curves: Mapping[str, Curve], task: Task, folder: Path) -> None:
    names = task.classes
    write_csv(folder / TABLE, _table(curves, task))
    write_atomically(folder / "label_efficiency.md", as_markdown(curves, names, note=task.note))
    with atomic_path(folder / "label_efficiency.png") as path:
        _draw(curves, names, note=task.note).savefig(path, dpi=120)


def _table(curves: Mapping[str, Curve], task: Task) -> Iterator[list[Any]]:
    yield ["method", "crops", "draw", *task.classes, *TESTED]
    tested = (len(task.crops), task.corrected)
    for key, curve in curves.items():
        for count, by_draw in zip(curve.counts, curve.iou, strict=True):
            for number, scores in enumerate(by_draw):
                yield [key, count, number, *("" if math.isnan(s) else Numeral(f"{s:.6f}") for s in scores), *tested]


def as_markdown(curves: Mapping[str, Curve], names: Sequence[str], *, note: str = "") -> str:
    """Format the table and the sentences in Markdown.

    Args:
        curves: From ``label_efficiency``.
        names: The K class names.
        note: Note on the test crops.

    Returns:
        Markdown: mean IoU [minimum and maximum over several draws] by method and number of crops.
    """
    head = ["method", "crops", *(f"IoU {name}".replace("|", "&#124;") for name in names)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for curve in curves.values():
        for count, by_draw in zip(curve.counts, curve.iou, strict=True):
            cells = [_cell(by_draw[:, k]) for k in range(len(names))]
            lines.append(f"| {' | '.join([curve.title, str(count), *cells])} |")
    said = [*sentences(curves, names), *([note] if note else [])]
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in said), ""])


def _cell(scores: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    if np.isnan(scores).any():
        return "n/a"
    over_draws = f" [{scores.min():.3f}-{scores.max():.3f}]" if len(scores) > 1 else ""
    return f"{scores.mean():.3f}{over_draws}"


def _draw(curves: Mapping[str, Curve], names: Sequence[str], *, note: str) -> Figure:
    """Plot a panel per class: mean IoU against training crops, with a band over draws."""
    figure = Figure(figsize=(3.4 * len(names) + 2.5, 3.2), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for k, (panel, name) in enumerate(zip(panels, names, strict=True)):
        for number, curve in enumerate(curves.values()):
            _draw_curve(panel, curve, k, colour=_COLOURS[number % len(_COLOURS)])
        panel.set_title(name, parse_math=False)
        panel.set(xlabel="labelled crops", xscale="log", ylim=(0, 1))
        counts = sorted({count for curve in curves.values() for count in curve.counts})
        panel.set_xticks(counts, [str(count) for count in counts])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("IoU")
    if note:
        figure.suptitle(note.partition(":")[0], parse_math=False, fontsize="medium")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def _draw_curve(panel: Axes, curve: Curve, k: int, *, colour: str) -> None:
    scores = curve.iou[:, :, k]
    panel.plot(curve.counts, scores.mean(axis=1), "o-", color=colour, label=curve.title)
    panel.fill_between(curve.counts, scores.min(axis=1), scores.max(axis=1), color=colour, alpha=0.15)
