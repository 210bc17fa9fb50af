"""Figures of a study of robustness: curves of the IoU kept, and the corrupted images."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytoseg.slides.corrupt import CORRUPTIONS, SEVERITIES
from cytoseg.studies.robustness_text import SAFE, Robust

_ACROSS = 5
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_LINES = ("-", "--", ":")
_SHOWN_PX = 128

Picture = NDArray[np.uint8]


def draw_curves(found: Sequence[Robust], corruptions: Sequence[str], k: int, *, name: str) -> Figure:
    """Plot a panel per corruption: the share of the IoU kept against severity, with an interval for the first method.

    Args:
        found: The methods.
        corruptions: Keys of the corruptions; without any there is one empty panel.
        k: The class plotted.
        name: Its name.
    """
    across = max(1, min(len(corruptions), _ACROSS))
    down = max(1, math.ceil(len(corruptions) / across))
    figure = Figure(figsize=(2.6 * across + 3, 2.5 * down + 0.5), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for panel, corruption in zip(panels.ravel(), corruptions, strict=False):
        for number, method in enumerate(found):
            _draw_method(panel, method, corruption, k, number=number)
        panel.axhline(SAFE, color="0.6", linewidth=0.8)
        panel.set_title(CORRUPTIONS[corruption].title, fontsize="medium")
        panel.set(xticks=range(SEVERITIES + 1), xlim=(0, SEVERITIES), ylim=(0, _highest(found, k) + 0.1))
        panel.grid(alpha=0.3)
    for panel in panels.ravel()[max(1, len(corruptions)) :]:
        panel.remove()
    figure.supxlabel("severity", fontsize="medium")
    figure.supylabel(f"share of the IoU of {name} kept", fontsize="medium", parse_math=False)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def draw_pictures(clean: Picture, rows: Mapping[str, Sequence[Picture]], severities: Sequence[int]) -> Figure:
    """Draw the middle of a crop, clean and with each corruption at each severity.

    Args:
        clean: (H, W, 3) uint8 RGB.
        rows: Title of each corruption to its images, one per severity.
        severities: The severities.
    """
    down, across = max(1, len(rows)), 1 + len(severities)
    figure = Figure(figsize=(1.7 * across + 0.6, 1.7 * down + 0.4), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False)
    for line, (title, pictures) in zip(panels, rows.items(), strict=False):
        line[0].set_ylabel(title, fontsize="small")
        for panel, picture in zip(line, (clean, *pictures), strict=True):
            panel.imshow(_middle(picture), interpolation="nearest")
    for panel, title in zip(panels[0], ("clean", *(f"severity {s}" for s in severities)), strict=True):
        panel.set_title(title, fontsize="small")
    for panel in panels.ravel():
        panel.set(xticks=[], yticks=[])
    return figure


def _draw_method(panel: Axes, method: Robust, corruption: str, k: int, *, number: int) -> None:
    cells = [cell for cell in method.cells if cell.corruption == corruption]
    kept = [cell.kept[k] for cell in cells]
    severities = [0, *(cell.severity for cell in cells)]
    values = [1.0, *(math.nan if score.value is None else score.value for score in kept)]
    colour, line = _COLOURS[number % len(_COLOURS)], _LINES[number // len(_COLOURS) % len(_LINES)]
    width = 2.2 if number == 0 else 1.2
    panel.plot(severities, values, f"o{line}", color=colour, label=method.title, markersize=3, linewidth=width)
    ends = [(score.low, score.high) for score in kept if score.low is not None and score.high is not None]
    if number == 0 and len(ends) == len(kept):
        lows, highs = [1.0, *(low for low, _ in ends)], [1.0, *(high for _, high in ends)]
        panel.fill_between(severities, lows, highs, color=colour, alpha=0.2)


def _highest(found: Sequence[Robust], k: int) -> float:
    """Return the largest share kept, at least 1."""
    kept = [cell.kept[k].value for method in found for cell in method.cells]
    return max([1.0, *(value for value in kept if value is not None)])


def _middle(picture: Picture) -> Picture:
    top, left = (max(0, side - _SHOWN_PX) // 2 for side in picture.shape[:2])
    return picture[top : top + _SHOWN_PX, left : left + _SHOWN_PX]
