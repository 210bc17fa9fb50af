"""Segmenting one slide in a separate process; started by predict_slide.py. Input and output are JSON."""

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import memory_mb
from numpy.typing import NDArray
from tile_steps import TIMESTEPS, Job

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.classes import ClassList
from cytoseg.features.extract import to_input
from cytoseg.geometry import Size
from cytoseg.interpreter.bundle import EnsemblePredictor
from cytoseg.predict.outputs import Destination
from cytoseg.predict.settings import SlideSettings
from cytoseg.predict.slide import Predictor, predict_slide
from cytoseg.slides.open import open_slide, read_at
from cytoseg.slides.tiling import TileGrid

TILE_PX, OVERLAP_PX = 256, 64
CLASSES = ClassList(("a", "b", "c"), ((240, 240, 240), (80, 180, 230), (210, 90, 0)), "a")
Maps = Mapping[str, NDArray[np.float32]]


def by_brightness(tiles: NDArray[np.uint8]) -> Maps:
    """Segment by brightness into three classes, without computing cost."""
    red = tiles[..., 0].astype(np.float32) / 255
    probabilities = np.stack([red, 1 - red, np.full_like(red, 0.1)], axis=1)
    return {"probabilities": probabilities, "disagreement": red}


class Watched:
    """A predictor that records when each of its calls began and ended."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.calls: list[tuple[float, float]] = []

    def __call__(self, tiles: NDArray[np.uint8]) -> Maps:
        begin = time.perf_counter()
        maps = self._predictor(tiles)
        self.calls.append((begin, time.perf_counter()))
        return maps


def segment(path: Path, predictor: Predictor, *, batch: int) -> float:
    """Segment a slide into a temporary folder beside it; return the seconds."""
    settings = SlideSettings(tile_px=TILE_PX, overlap_px=OVERLAP_PX, batch=batch, mpp=None, assume_mpp=None)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, open_slide(path) as slide:
        begin = time.perf_counter()
        destination = Destination(Path(folder) / "slide", CLASSES, {})
        predict_slide(slide, predictor, destination, settings=settings, tissue=None, on_progress=lambda *_: None)
        return time.perf_counter() - begin


def memory(job: dict[str, Any]) -> dict[str, Any]:
    """Segment the slide with a predictor without computing cost."""
    watched = Watched(by_brightness)
    seconds = segment(Path(job["slide"]), watched, batch=1)
    return {"s": seconds, "tiles": len(watched.calls), "peak_mb": memory_mb("VmHWM")}


def rate(job: dict[str, Any]) -> dict[str, Any]:
    """Segment the slide with a network; then run the predictor, and its forward passes, alone on the same tiles."""
    device = torch.device(job["device"])
    if device.type == "cpu":
        tune_cpu_allocator()
    bundle = Job("ours", job["dim"], TILE_PX, "bf16").bundle()
    predictor = EnsemblePredictor(bundle, device=device)
    batch = predictor.tiles_at_once(TILE_PX)
    watched = Watched(predictor)
    watched(np.zeros((batch, TILE_PX, TILE_PX, 3), np.uint8))
    watched.calls.clear()
    segment(Path(job["slide"]), watched, batch=batch)
    first, last = watched.calls[0][0], watched.calls[-1][1]
    busy = sum(end - begin for begin, end in watched.calls)
    peak = memory_mb("VmHWM")
    tiles = _tiles(Path(job["slide"]), batch)
    begin = time.perf_counter()
    for some in tiles:
        predictor(some)
    alone = time.perf_counter() - begin
    return {
        "tiles": sum(map(len, tiles)),
        "whole_s": last - first,
        "alone_s": alone,
        "bare_s": _bare(bundle.unet, tiles, device),
        "waiting": 1 - busy / (last - first),
        "peak_mb": peak,
    }


def _tiles(path: Path, batch: int) -> list[NDArray[np.uint8]]:
    with open_slide(path) as slide:
        grid = TileGrid(slide.levels[0].size, TILE_PX, OVERLAP_PX)
        rows = [[read_at(slide, tile.region, Size(TILE_PX, TILE_PX)) for tile in row] for row in grid.rows()]
    return [np.stack(row[first : first + batch]) for row in rows for first in range(0, len(row), batch)]


@torch.inference_mode()
def _bare(unet: Any, tiles: list[NDArray[np.uint8]], device: torch.device) -> float:
    begin = time.perf_counter()
    for some in tiles:
        x = to_input(some).to(device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            for t in TIMESTEPS:
                unet(x, torch.full((len(x),), t, device=device))
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps({"memory": memory, "rate": rate}[given["what"]](given)))
