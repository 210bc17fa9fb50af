"""Comparing variants of the diffusion model: table and figure over several seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cytoseg.csv_table import write_csv
from cytoseg.studies.result_cache import StoredResult, digest_of, read_result, result_file, write_result
from cytoseg.writing import atomic_path, write_atomically

CONTROL = "base again"
"""The base again with other seeds: the difference between the two is noise."""
_BLUE = "#0072b2"
_GREY = "#999999"


@dataclass(frozen=True)
class VariantOutcome:
    """Result of one training of one variant.

    Attributes:
        parameters: Number of weights.
        crops: Crops seen.
        step_s: Median seconds of a training step.
        losses: Mean squared error of the predicted noise by range of timesteps, on crops not trained on.
        kid: KID of samples against real crops; None if a sample is not finite.
        fid: FID of samples against real crops; likewise.
        iou: IoU per class of MLPs on its features; empty without labels, None for a class without pixels.
    """

    parameters: int
    crops: int
    step_s: float
    losses: dict[str, float]
    kid: float | None
    fid: float | None
    iou: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class _StoredOutcome(StoredResult):
    outcome: VariantOutcome


_FILE = result_file(_StoredOutcome)


@dataclass(frozen=True)
class VariantRow:
    """All outcomes of one variant.

    Attributes:
        name: Its name.
        outcomes: One per seed.
    """

    name: str
    outcomes: tuple[VariantOutcome, ...]

    def of(self, what: str) -> list[float]:
        """Return one number per seed: a field of ``VariantOutcome``, ``loss RANGE`` or ``iou NUMBER``, if defined."""
        kind, _, which = what.partition(" ")
        found: list[Any] = []
        for outcome in self.outcomes:
            if kind == "loss":
                found.append(outcome.losses.get(which))
            elif kind == "iou":
                found.append(next(iter(outcome.iou[int(which) :]), None))
            else:
                found.append(getattr(outcome, kind))
        return [float(value) for value in found if value is not None]


def outcome_or_stored(path: Path, decides: Mapping[str, Any], train: Callable[[], VariantOutcome]) -> VariantOutcome:
    """Train and measure a variant once, or return the stored outcome of the same inputs.

    Args:
        path: JSON file of the outcome.
        decides: Everything that determines it, as JSON.
        train: Trains and returns the `VariantOutcome`.
    """
    found = stored_outcome(path, decides)
    return found or write_result(path, _StoredOutcome(digest_of(decides), train()), _FILE).outcome


def stored_outcome(path: Path, decides: Mapping[str, Any]) -> VariantOutcome | None:
    """Return the stored outcome of these inputs, or None; parameters as in ``outcome_or_stored``."""
    found = read_result(path, digest_of(decides), _FILE)
    return None if found is None else found.outcome


def write_study(
    folder: Path, rows: Sequence[VariantRow], classes: Sequence[str], *, floor: tuple[float, float], note: str
) -> str:
    """Write architectures.csv, .md and .png; return the Markdown.

    Args:
        folder: Where to write them.
        rows: The variants, the control last.
        classes: Class names of the IoUs.
        floor: KID and FID of real crops against others.
        note: How they were trained, below the table.
    """
    columns = _columns(rows, classes)
    write_csv(folder / "architectures.csv", _table(rows, columns))
    text = as_markdown(rows, classes, floor=floor, note=note)
    write_atomically(folder / "architectures.md", text)
    with atomic_path(folder / "architectures.png") as path:
        _draw(rows, classes, floor=floor).savefig(path, dpi=120)
    return text


def as_markdown(rows: Sequence[VariantRow], classes: Sequence[str], *, floor: tuple[float, float], note: str) -> str:
    """Format the table in Markdown: mean [minimum-maximum over seeds], and the values outside the control's spread."""
    columns = _columns(rows, classes)
    lines = [
        f"| variant | seeds | {' | '.join(title for title, _ in columns)} |".replace("\n", " "),
        "|---" * (len(columns) + 2) + "|",
        *(
            f"| {row.name} | {len(row.outcomes)} | {' | '.join(_cell(row.of(what)) for _, what in columns)} |"
            for row in rows
        ),
    ]
    said = [
        f"Real crops against other real crops: KID {floor[0]:.3f}, FID {floor[1]:.2f}. Lower is better for KID, FID "
        "and loss, higher for IoU.",
        verdict(rows, classes),
        note,
    ]
    return "\n".join([*lines, "", *said, ""])


def verdict(rows: Sequence[VariantRow], classes: Sequence[str]) -> str:
    """Describe which variants differ from the base by more than the two rows of the base differ from each other."""
    base, control = rows[0], next((row for row in rows if row.name == CONTROL), None)
    if control is None:
        return "Without a control, noise cannot be distinguished from real differences."
    told = []
    for title, what in _columns(rows, classes):
        if what in ("parameters", "crops", "step_s"):
            continue
        usual = [*base.of(what), *control.of(what)]
        for row in rows[1:]:
            found = row.of(what)
            if row is control or not found or not usual or min(usual) <= np.mean(found) <= max(usual):
                continue
            told.append(f"{row.name} {title} {np.mean(found):.3f} (base {min(usual):.3f} to {max(usual):.3f})")
    if not told:
        return "No variant lies outside the range of the base over seeds."
    return f"Outside the range of the base over seeds: {'; '.join(told)}. All others lie within it."


def _columns(rows: Sequence[VariantRow], classes: Sequence[str]) -> list[tuple[str, str]]:
    ranges = rows[0].outcomes[0].losses
    labelled = bool(rows[0].outcomes[0].iou)
    return [
        ("weights", "parameters"),
        ("crops", "crops"),
        ("s a step", "step_s"),
        *((f"loss t {name}", f"loss {name}") for name in ranges),
        ("KID", "kid"),
        ("FID", "fid"),
        *((f"IoU {name}".replace("|", "&#124;"), f"iou {k}") for k, name in enumerate(classes) if labelled),
    ]


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "n/a"
    if all(value == int(value) and abs(value) >= 10 for value in values):
        return f"{np.mean(values):,.0f}"
    spread = f" [{min(values):.3f}-{max(values):.3f}]" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def _table(rows: Sequence[VariantRow], columns: Sequence[tuple[str, str]]) -> Any:
    yield ["variant", "seed", *(what for _, what in columns)]
    for row in rows:
        for number, outcome in enumerate(row.outcomes):
            one = VariantRow(row.name, (outcome,))
            yield [row.name, number, *(next(iter(one.of(what)), None) for _, what in columns)]


def _draw(rows: Sequence[VariantRow], classes: Sequence[str], *, floor: tuple[float, float]) -> Figure:
    """Plot a panel for each column except weights and crops: a dot per seed, a bar for the mean."""
    wanted = [c for c in _columns(rows, classes) if c[1] not in ("parameters", "crops")]
    figure = Figure(figsize=(2.4 * len(wanted) + 2, 0.35 * len(rows) + 1.4), layout="constrained")
    panels = figure.subplots(1, len(wanted), sharey=True, squeeze=False)[0]
    floors = {"kid": floor[0], "fid": floor[1]}
    places = list(range(len(rows)))[::-1]
    for panel, (title, what) in zip(panels, wanted, strict=True):
        for place, row in zip(places, rows, strict=True):
            values = row.of(what)
            colour = _GREY if row.name == CONTROL else _BLUE
            panel.plot(values, [place] * len(values), "o", color=colour, alpha=0.6)
            if values:
                panel.plot([np.mean(values)] * 2, [place - 0.3, place + 0.3], color=colour)
        if what in floors:
            panel.axvline(floors[what], color=_GREY, linestyle=":")
        panel.set_title(title, parse_math=False, fontsize="medium")
        panel.set_yticks(places, [row.name for row in rows])
        panel.grid(axis="x", alpha=0.3)
    return figure
