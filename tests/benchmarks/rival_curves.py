"""Label-efficiency curves of the trainings that ``rivals`` has done: a table and a figure.

    python -m tests.benchmarks.rival_curves results/rivals_lbc.csv results/label_efficiency_lbc

Writes IoU by number of train crops: the mean over the draws, with their range in brackets, and one panel per class.
"""

import argparse
import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tests.benchmarks.rivals import TITLES

OTHER_COLUMNS = ("method", "learnt_from", "draw_or_seed", "fit_s", "s_per_crop", "f1", "aji")
Scores = Mapping[int, Sequence[float]]
"""IoU of each training by number of crops."""


def scores_of(rows: Sequence[Mapping[str, str]], method: str, name: str, all_crops: int) -> dict[int, list[float]]:
    """Collect the IoU of a class by number of train crops; trainings on the slides of one part are left out."""
    found: dict[int, list[float]] = {}
    for row in rows:
        drawn = re.fullmatch(r"(\d+)c\d+", row["learnt_from"])
        if row["method"] == method and (drawn or row["learnt_from"] == "all"):
            found.setdefault(int(drawn[1]) if drawn else all_crops, []).append(float(row[name]))
    return dict(sorted(found.items()))


def table(curves: Mapping[str, Scores], name: str) -> str:
    """Format one class: a row per method, a column per number of crops."""
    counts = sorted({count for curve in curves.values() for count in curve})
    lines = [f"| {name}, by labelled crops | {' | '.join(map(str, counts))} |", "|---" * (len(counts) + 1) + "|"]
    lines += [f"| {title} | {' | '.join(_cell(curve.get(n, ())) for n in counts)} |" for title, curve in curves.items()]
    return "\n".join(lines)


def figure(panels: Mapping[str, Mapping[str, Scores]]) -> Figure:
    """Plot a panel per class: mean IoU by number of crops, with a band over the draws."""
    drawn = Figure(figsize=(4.2 * len(panels) + 3.4, 4.2), layout="constrained")
    axes = drawn.subplots(1, len(panels), squeeze=False)[0]
    for panel, (name, curves) in zip(axes, panels.items(), strict=True):
        for title, curve in curves.items():
            counts = list(curve)
            means = [sum(values) / len(values) for values in curve.values()]
            (line,) = panel.plot(counts, means, "o-", label=title)
            lows, highs = map(min, curve.values()), map(max, curve.values())
            panel.fill_between(counts, list(lows), list(highs), color=line.get_color(), alpha=0.15)
        panel.set(title=name, xlabel="labelled crops", xscale="log")
        ticks = sorted({count for curve in curves.values() for count in curve})
        panel.set_xticks(ticks, [str(count) for count in ticks])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("IoU")
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return drawn


def main() -> None:
    """Write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--all-crops", type=int, default=30, help="number of crops of the trainings on 'all'")
    options = parser.parse_args()
    with options.file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in OTHER_COLUMNS and "_" not in name]
    panels: dict[str, dict[str, Scores]] = {}
    for name in reversed(names):
        found = {title: scores_of(rows, key, name, options.all_crops) for key, title in TITLES.items()}
        panels[name] = {title: scores for title, scores in found.items() if scores}
    print("\n\n".join(table(curves, name) for name, curves in panels.items()))
    figure(panels).savefig(options.out.with_suffix(".png"), dpi=110)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = f"{sum(values) / len(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f}-{max(values):.3f})"


if __name__ == "__main__":
    main()
