"""Heat map of a feature selection: taps by timesteps, a panel per class."""

import math

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cytoseg.diffusion.add_noise import snr_db
from cytoseg.studies.class_sizes import SMALL_PX
from cytoseg.studies.feature_selection.select import Selection
from cytoseg.studies.feature_selection.settings import Question
from cytoseg.studies.feature_selection.tables import small_classes

_PANELS_ACROSS = 3
_COLOURS = "cividis"  # colour-blind safe
_CHOSEN = "#d55e00"
Grid = NDArray[np.float64]


def draw(selection: Selection, question: Question, alpha_bars: torch.Tensor) -> Figure:
    """Draw the IoU of each single tap and timestep; chosen ones are framed.

    Args:
        selection: From ``select_features``.
        question: Its taps, timesteps and class names.
        alpha_bars: (T,) from the network's schedule.

    Returns:
        A panel per class, for the means over small and large classes if there are several, and for the overall mean.
    """
    panels = _panels(selection, question)
    across = min(len(panels), _PANELS_ACROSS)
    down = math.ceil(len(panels) / across)
    size = (across * (0.5 * len(question.timesteps) + 0.7) + 1.6, down * (0.25 * len(question.taps) + 1.2))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    ratios = snr_db(alpha_bars[list(question.timesteps)])
    ticks = [f"{t}\n{float(ratio):.0f}" for t, ratio in zip(question.timesteps, ratios, strict=True)]
    for axis, (title, grid) in zip(axes, panels, strict=False):
        _heat(axis, grid)
        _frame_chosen(axis, selection, question)
        axis.set_title(title, parse_math=False, fontsize=10)
        axis.set_xticks(range(len(ticks)), ticks, fontsize=8)
        axis.set_yticks(range(len(question.taps)), question.taps, fontsize=8)
    for axis in axes[len(panels) :]:
        axis.remove()
    figure.supxlabel("timestep t, below it its signal-to-noise ratio in dB; framed: chosen", fontsize=9)
    figure.suptitle("IoU of one tap at one timestep, on held-out slides", fontsize=11)
    return figure


def _panels(selection: Selection, question: Question) -> list[tuple[str, Grid]]:
    """Return titles and (taps, timesteps) grids of IoU; NaN where not measured."""
    grids = np.full((len(question.classes), len(question.taps), len(question.timesteps)), np.nan)
    for trial in selection.trials:
        if trial.stage == "single":
            features = trial.measured.features
            place = question.taps.index(features.taps[0]), question.timesteps.index(features.timesteps[0])
            grids[:, place[0], place[1]] = trial.measured.iou
    found = [(_title(name, selection.diameters[k]), grids[k]) for k, name in enumerate(question.classes)]
    groups = [
        ("small classes", small_classes(selection, small=True)),
        ("large classes", small_classes(selection, small=False)),
    ]
    for title, ids in [*groups, ("all classes", list(range(len(question.classes))))]:
        if len(ids) > 1:
            found.append((f"mean of {title}", _mean(grids[ids])))
    return found


def _title(name: str, diameter: float | None) -> str:
    if diameter is None:
        return name
    return f"{name} ({'small' if diameter < SMALL_PX else 'large'}: {diameter:.0f} px)"


def _mean(grids: Grid) -> Grid:
    """Average over the classes with a defined IoU."""
    applies = ~np.isnan(grids)
    total = np.where(applies, grids, 0).sum(axis=0)
    mean: Grid = np.divide(total, applies.sum(axis=0), out=np.full(total.shape, np.nan), where=applies.any(axis=0))
    return mean


def _heat(axis: Axes, grid: Grid) -> None:
    """Colour the cells up to the panel's maximum IoU, the worst tenth equally, and write the values into them."""
    known = grid[~np.isnan(grid)]
    least, greatest = (float(np.quantile(known, 0.1)), float(known.max())) if known.size else (0.0, 1.0)
    axis.set_facecolor("#dddddd")  # skipped
    axis.imshow(grid, cmap=_COLOURS, aspect="auto", vmin=least, vmax=max(greatest, least + 0.01))
    for (row, column), value in np.ndenumerate(grid):
        dark = value < (least + greatest) / 2
        text = "–" if np.isnan(value) else f"{value:.2f}".removeprefix("0")
        axis.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")


def _frame_chosen(axis: Axes, selection: Selection, question: Question) -> None:
    chosen = selection.chosen.features
    for row, tap in enumerate(question.taps):
        for column, t in enumerate(question.timesteps):
            if chosen.has_taps and tap in chosen.taps and t in chosen.timesteps:
                corner = (column - 0.45, row - 0.45)
                axis.add_patch(Rectangle(corner, 0.9, 0.9, fill=False, edgecolor=_CHOSEN, linewidth=1.5))
