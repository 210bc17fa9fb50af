"""Pictures that commands leave in a run folder: sample grid and loss curve."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image
from torch import Tensor

from cytoseg.writing import atomic_path

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def save_grid(path: Path, images: Tensor) -> None:
    """Save (N, 3, H, W) images in [-1, 1] as one PNG, as square a grid as fits, 2 px apart."""
    count, _, height, width = images.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    grid = np.full((rows * (height + 2) - 2, columns * (width + 2) - 2, 3), 255, np.uint8)
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    for i, picture in enumerate(pixels):
        y, x = i // columns * (height + 2), i % columns * (width + 2)
        grid[y : y + height, x : x + width] = picture
    with atomic_path(path) as temporary:
        Image.fromarray(grid).save(temporary)


def save_loss_curve(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Plot the loss of every step and its running mean against crops seen.

    Args:
        path: PNG to write.
        rows: Rows of ``metrics.jsonl`` with ``crops_seen`` and ``loss``.
    """
    crops = np.array([r["crops_seen"] for r in rows], float)
    loss = np.array([r["loss"] for r in rows], float)
    window = max(1, len(loss) // 50)
    smooth = np.convolve(loss, np.ones(window) / window, mode="valid")
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(crops, loss, color="#bbbbbb", linewidth=0.6, label="each step")
    axes.plot(crops[window - 1 :], smooth, color="#0072b2", label=f"mean of {window} steps")
    axes.set(xlabel="crops seen", ylabel="loss (mean squared error)", yscale="log")
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)
