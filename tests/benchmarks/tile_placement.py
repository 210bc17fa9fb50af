"""Dependence of a map on tile placement, for a network with attention.

    python -m tests.benchmarks.tile_placement BUNDLE SLIDE [BUNDLE SLIDE ...]

Each slide, at most its first 1536 x 1536 px, is predicted in tiles of the default size, then with the tiles shifted by
half a step, and finally at the first positions with other noise, which shows the effect of noise alone.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.geometry import Region, Size
from cytoseg.interpreter.bundle import Bundle, EnsemblePredictor, load_bundle
from cytoseg.slides.open import open_slide, read_at
from cytoseg.slides.stitching import blend_window
from cytoseg.slides.tiling import TileGrid
from tests.benchmarks.machine import Table, describe, write_results

TILE_PX, OVERLAP_PX = 256, 64
MOVED_PX = (TILE_PX - OVERLAP_PX) // 2
MAX_PX, EDGE_PX, LEVEL_PX = 1536, 32, 64
OTHER_NOISE = 5
COLUMNS = (
    "bundle",
    "slide",
    "what changed",
    "pixels of another class",
    "IoU of the last class",
    "mean uncertainty",
    "level differs, mean",
    "level differs, most",
)
NOTE = (
    f"Tiles of {TILE_PX} px that share {OVERLAP_PX}. Moved: tiles lie {MOVED_PX} px further right and down. Level: "
    f"mean uncertainty (nats) of {LEVEL_PX} x {LEVEL_PX} px. The IoU compares both maps, not one with the truth. "
    f"A margin of {EDGE_PX} px is excluded."
)
Maps = NDArray[np.float32]


def blended(predictor: EnsemblePredictor, picture: NDArray[np.uint8]) -> Maps:
    """Predict an image tile by tile; return (K + 1, H, W), the uncertainty last."""
    height, width = picture.shape[:2]
    window = np.outer(*[blend_window(TILE_PX, OVERLAP_PX)] * 2)
    sums = np.zeros((len(predictor.classes) + 1, height, width), np.float32)
    weights = np.zeros((height, width), np.float32)
    for row in TileGrid(Size(width, height), TILE_PX, OVERLAP_PX).rows():
        for tile in row:
            at = (slice(tile.y, tile.y + TILE_PX), slice(tile.x, tile.x + TILE_PX))
            maps = predictor(picture[at][None])
            sums[:, *at] += np.concatenate([maps["probabilities"][0], maps["disagreement"]]) * window
            weights[at] += window
    return sums / weights


def compared(first: Maps, second: Maps) -> list[str]:
    """Compare two predictions of the same pixels; return the last columns of the table."""
    inside = (slice(None), *[slice(EDGE_PX, -EDGE_PX)] * 2)
    first, second = first[inside], second[inside]
    ids, other = first[:-1].argmax(0), second[:-1].argmax(0)
    last = len(first) - 2
    iou = ((ids == last) & (other == last)).sum() / max(1, ((ids == last) | (other == last)).sum())
    levels = np.abs(_levels(first[-1]) - _levels(second[-1]))
    numbers = f"{(ids != other).mean():.2%}", f"{iou:.3f}", f"{first[-1].mean():.4f}"
    return [*numbers, f"{levels.mean():.4f}", f"{levels.max():.4f}"]


def _levels(nats: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = (side // LEVEL_PX for side in nats.shape)
    blocks = nats[: rows * LEVEL_PX, : columns * LEVEL_PX].reshape(rows, LEVEL_PX, columns, LEVEL_PX)
    return blocks.mean((1, 3))


def _rows(name: str, bundle: Bundle, slide: str, picture: NDArray[np.uint8]) -> Iterator[list[Any]]:
    cpu = torch.device("cpu")
    noisier = replace(bundle, features=replace(bundle.features, noise_seed=OTHER_NOISE))
    predictor = EnsemblePredictor(bundle, device=cpu)
    first = blended(predictor, picture)
    moved = blended(predictor, picture[MOVED_PX:, MOVED_PX:])
    yield [name, slide, "tiles moved", *compared(first[:, MOVED_PX:, MOVED_PX:], moved)]
    yield [name, slide, "other noise", *compared(first, blended(EnsemblePredictor(noisier, device=cpu), picture))]


def main() -> None:
    """Compare placements for each pair of a bundle and a slide."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", type=Path, metavar="BUNDLE SLIDE")
    pairs: list[Path] = parser.parse_args().pairs
    tune_cpu_allocator()
    rows = []
    for folder, path in zip(pairs[::2], pairs[1::2], strict=True):
        with open_slide(path) as slide:
            size = slide.levels[0].size
            width, height = min(size.width, MAX_PX), min(size.height, MAX_PX)
            picture = read_at(slide, Region(0, 0, width, height), Size(width, height))
        for row in _rows(folder.parent.parent.name, load_bundle(folder), path.name, picture):
            print(*row, sep="  ", flush=True)
            rows.append(row)
    table = Table("Maps", NOTE, COLUMNS, rows)
    write_results(
        "tile_placement",
        "Effect of the placement of tiles",
        [table],
        machine=describe(),
        notes="No times are measured.",
    )


if __name__ == "__main__":
    main()
