"""Speed of the 72 image filters compared with skimage, and the difference of their values.

Writes results/filter_speed.*.

Run: python tests/benchmarks/filter_speed.py [--turns 5] [--sizes 64 256 512]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from machine import Table, describe, shared_note, write_results
from numpy.typing import NDArray
from skimage.feature import multiscale_basic_features

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.features.extract import to_input
from cytoseg.features.filters import filter_maps

COLUMNS = ("picture, px", "torch, s a megapixel", "skimage, s a megapixel", "skimage / torch", "largest difference")
Picture = NDArray[np.uint8]


def by_torch(picture: Picture) -> NDArray[np.float32]:
    """Filter a crop like the feature stack; return (H, W, 72)."""
    maps: NDArray[np.float32] = filter_maps(to_input(picture[None]))[0].permute(1, 2, 0).numpy()
    return maps


def by_skimage(picture: Picture) -> NDArray[np.float32]:
    """Filter a crop with skimage in one thread; return (H, W, 72)."""
    scaled = picture.astype(np.float32) / np.float32(255)
    responses: NDArray[np.float32] = multiscale_basic_features(
        scaled, sigma_min=0.5, sigma_max=16, workers=1, channel_axis=-1
    )
    return responses


def seconds(way: Callable[[Picture], object], picture: Picture, *, repeats: int) -> float:
    """Measure an implementation in CPU seconds per megapixel."""
    begin = time.process_time()
    for _ in range(repeats):
        way(picture)
    return (time.process_time() - begin) / (repeats * picture[..., 0].size / 1e6)


def row(size_px: int, *, turns: int) -> list[object]:
    """Alternate the implementations on one image, so that other load on the machine affects both alike."""
    picture = np.random.default_rng(0).integers(0, 256, (size_px, size_px, 3), np.uint8)
    apart = np.abs(by_torch(picture) - by_skimage(picture)).max()
    repeats = max(1, 2**18 // size_px**2)
    found = [[seconds(way, picture, repeats=repeats) for way in (by_torch, by_skimage)] for _ in range(turns)]
    ours, theirs = zip(*found, strict=True)
    ratios = [b / a for a, b in found]
    return [size_px, spread(ours), spread(theirs), spread(ratios), f"{apart:.1e}"]


def spread(values: Sequence[float]) -> str:
    """Format the median and the range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="measured turns of each implementation")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 512], help="sides of the images in pixels")
    options = parser.parse_args()
    machine = describe()
    torch.set_num_threads(1)
    tune_cpu_allocator()
    rows = [row(size_px, turns=options.turns) for size_px in options.sizes]
    note = "CPU seconds, one thread each; the median of the turns and their range. Values are 0 to 1."
    notes = (
        f"Random images, {options.turns} turns of each implementation, alternating, with the allocator settings of "
        f"`cytoseg predict`. {shared_note(machine)}"
    )
    table = Table("72 filters", note, COLUMNS, rows)
    print(
        write_results("filter_speed", "Image filters compared with scikit-image", [table], machine=machine, notes=notes)
    )


if __name__ == "__main__":
    main()
