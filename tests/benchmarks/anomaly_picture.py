"""A figure of scored slides beside the ground truth, for the docs and to illustrate the numbers of anomaly.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch
from numpy.typing import NDArray

COLOURS = ("#0072b2", "#e69f00", "#cc79a7", "#009e73")
HIGHEST = 3.0
"""Upper end of the colour scale, as a multiple of the threshold."""


@dataclass(frozen=True)
class ScoredSlide:
    """A slide, its true anomalies by name, and its scores in units of the threshold, all (H, W)."""

    title: str
    picture: NDArray[np.uint8]
    truth: dict[str, NDArray[np.bool_]]
    texture: NDArray[np.float32]
    shape: NDArray[np.float32]


def save_figure(path: Path, slides: Sequence[ScoredSlide]) -> None:
    """Draw a row for each slide: image, ground truth and both scores."""
    figure, axes = plt.subplots(len(slides), 4, figsize=(10, 2.7 * len(slides)), squeeze=False, layout="constrained")
    for row, slide in zip(axes, slides, strict=True):
        row[0].imshow(slide.picture)
        row[1].imshow(coloured(slide))
        shown = [row[2 + i].imshow(one, vmin=0, vmax=HIGHEST, cmap="magma") for i, one in enumerate(scores(slide))]
        row[0].set_ylabel(slide.title)
        row[1].legend(
            handles=[Patch(color=colour, label=name) for name, colour in zip(slide.truth, COLOURS, strict=False)],
            fontsize=7,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.01),
            ncols=3,
            frameon=False,
        )
        figure.colorbar(shown[-1], ax=row[3], shrink=0.8, label="times the threshold")
    for axis, title in zip(axes[0], ("slide", "ground truth", "texture", "shape"), strict=True):
        axis.set_title(title)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(path, dpi=100)
    plt.close(figure)


def scores(slide: ScoredSlide) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return both scores of a slide."""
    return slide.texture, slide.shape


def coloured(slide: ScoredSlide) -> NDArray[np.uint8]:
    """Draw the true anomalies over a faded slide; return (H, W, 3)."""
    drawn = 255 - (255 - slide.picture) // 4
    for mask, colour in zip(slide.truth.values(), COLOURS, strict=False):
        drawn[mask] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return drawn
