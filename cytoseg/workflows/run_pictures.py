"""Images of a training: sample grid and loss curve."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cytoseg.slides.generated_mark import GeneratedMark, png_text
from cytoseg.writing import atomic_path

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def save_grid(path: Path, images: Tensor, *, columns: int | None = None, made: GeneratedMark | None = None) -> None:
    """Save images in a grid as one PNG, 2 px apart.

    Args:
        path: PNG to write.
        images: (N, C, H, W) in [-1, 1], RGB or grey.
        columns: Images per row; by default the grid is about square.
        made: The mark of images that a diffusion model drew.
    """
    count, channels, height, width = images.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    grid = np.full((rows * (height + 2) - 2, columns * (width + 2) - 2, channels), 255, np.uint8)
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    for i, picture in enumerate(pixels):
        y, x = i // columns * (height + 2), i % columns * (width + 2)
        grid[y : y + height, x : x + width] = picture
    with atomic_path(path) as temporary:
        pixels = grid[..., 0] if channels == 1 else grid
        Image.fromarray(pixels).save(temporary, format="PNG", pnginfo=png_text(made))


def save_loss_curve(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Plot the losses with their running means, and running means per timestep range, against crops seen.

    Args:
        path: PNG to write.
        rows: Rows of ``metrics.jsonl`` with ``crops_seen``, ``loss``, ``by_t`` unless of an autoencoder, and further
            losses; no plot if empty. A denoising loss that is 0 throughout, having no weight, is left out, as are rows
            of a damaged log.
    """
    rows = [row for row in rows if _is_whole(row)]
    if not rows:  # the log was removed
        return
    panels: list[Callable[[Axes], None]] = []
    if any(row["loss"] > 0 for row in rows):
        denoises = any("by_t" in row for row in rows)
        label = "loss (mean squared error)" if denoises else "loss (mean difference)"
        panels.append(lambda axes: _draw_loss(axes, rows, "loss", label))
        panels += [lambda axes: _draw_by_timestep(axes, rows)] if denoises else []
    if any("mask_loss" in row for row in rows):
        panels.append(lambda axes: _draw_loss(axes, rows, "mask_loss", "mask loss (cross entropy)"))
    if any("discriminator_loss" in row for row in rows):
        panels.append(lambda axes: _draw_loss(axes, rows, "discriminator_loss", "discriminator loss (squared error)"))
    if not panels:
        return
    figure, all_axes = plt.subplots(1, len(panels), figsize=(6 * len(panels), 4), layout="constrained", squeeze=False)
    for draw, axes in zip(panels, all_axes[0], strict=True):
        draw(axes)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)


def _is_whole(row: dict[str, Any]) -> bool:
    """Return whether a row has the numbers to plot, which one that was edited or damaged may lack."""
    by_t = row.get("by_t", {})
    others = [row[key] for key in ("mask_loss", "discriminator_loss") if key in row]
    if not isinstance(by_t, dict) or not all(name.split("-")[0].isdecimal() for name in by_t):
        return False
    return all(isinstance(v, int | float) for v in (row.get("crops_seen"), row.get("loss"), *others, *by_t.values()))


def _draw_loss(axes: Axes, rows: Sequence[dict[str, Any]], key: str, label: str) -> None:
    found = np.array([(row["crops_seen"], row[key]) for row in rows if key in row], float).T
    axes.plot(*found, color="#bbbbbb", linewidth=0.6, label="each reading")
    axes.plot(*_running_mean(*found), color="#0072b2", label="running mean")
    axes.set(xlabel="crops seen", ylabel=label, yscale="log")
    axes.legend(frameon=False)


def _draw_by_timestep(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    ranges = sorted({name for r in rows for name in r.get("by_t", {})}, key=lambda name: int(name.split("-")[0]))
    for number, name in enumerate(ranges):
        seen = [(r["crops_seen"], r["by_t"][name]) for r in rows if name in r.get("by_t", {})]
        at, mean = _running_mean(*np.array(seen, float).T)
        axes.plot(at, mean, color=plt.get_cmap("viridis")(number / max(1, len(ranges) - 1)), label=f"t {name}")
    axes.set(xlabel="crops seen", title="by timestep", yscale="log")
    if ranges:
        axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))


def _running_mean(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Running mean over a fiftieth of the values."""
    window = max(1, len(y) // 50)
    return x[window - 1 :], np.convolve(y, np.ones(window) / window, mode="valid")
