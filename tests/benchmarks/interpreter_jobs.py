"""Gathering features and training interpreters in a separate process; started by interpreter_memory.py.

The weights of the network are random, since neither time nor memory depends on them.
"""

import json
import math
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from machine import memory_mb
from made_files import draw_labelled
from numpy.typing import NDArray

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.diffusion.architecture import Architecture, tap_names
from cytoseg.diffusion.unet import build_unet
from cytoseg.features.extract import FeatureExtractor, NativeFeatures, to_input
from cytoseg.features.pixel_rows import MemoryLimits
from cytoseg.features.pixel_table import PixelDraw, PixelTable, gather_pixels
from cytoseg.features.settings import FeatureSettings
from cytoseg.interpreter.memory import training_bytes
from cytoseg.interpreter.settings import EnsembleSettings
from cytoseg.interpreter.train_mlps import train_ensemble

CPU, TIMESTEPS, PIXELS, CLASSES = torch.device("cpu"), (50, 100, 150), 2000, 3
PLACES = 16  # distinct crops of the image along each side


@dataclass(frozen=True)
class Job:
    """A job: ``kind`` is ``ours`` or ``dense``; the ceiling and ``reuse`` apply to ``ours``.

    The features of one crop are reused for ``reuse`` crops: memory stays the same and the time is multiplied.
    """

    kind: str
    crops: int
    size_px: int
    dim: int
    precision: str
    members: int
    steps: int
    ceiling_gb: float | None = None
    reuse: int = 1

    def extractor(self) -> "Reusing":
        """Return the feature settings of the method: all taps, three timesteps."""
        architecture = Architecture(dim=self.dim, dim_mults=(1, 2, 4, 8))
        settings = FeatureSettings(tap_names(architecture), TIMESTEPS, scale=1, noise_seed=0)
        unet = build_unet(architecture).eval()
        extractor = Reusing(unet, architecture, settings, device=CPU, precision=self.precision)
        extractor.reuse = self.reuse
        return extractor

    def ensemble(self) -> EnsembleSettings:
        """Return the recipe's defaults except the number of steps."""
        return EnsembleSettings(members=self.members, steps=self.steps, seed=0)


class Reusing(FeatureExtractor):
    """Computes features at every ``reuse``-th call, returns the same ones in between, and measures the time."""

    reuse, calls, cpu_s = 1, 0, 0.0
    _last: list[NativeFeatures]

    def __call__(self, pictures: torch.Tensor) -> NativeFeatures:
        """Return features after releasing the previous ones, as in a real run."""
        if self.calls % self.reuse == 0:
            self._last = []
            begin = time.process_time()
            self._last.append(super().__call__(pictures))
            self.cpu_s += time.process_time() - begin
        self.calls += 1
        return self._last[0]

    def forget(self) -> None:
        """Release the features."""
        self._last = []


def crops_of(job: Job) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Cut the requested number of different crops from one synthetic image, each with two or more classes."""
    picture, labels = draw_labelled(1024)
    step = (1024 - job.size_px) // (PLACES - 1)
    corners = [(y, x) for y in range(0, PLACES * step, step) for x in range(0, PLACES * step, step)]
    cut = [(slice(y, y + job.size_px), slice(x, x + job.size_px)) for y, x in corners]
    found = [(picture[place], labels[place]) for place in cut if len(np.unique(labels[place])) > 1]
    assert len(found) >= job.crops, "the picture shows more cells"
    return found[: job.crops]


def ours(job: Job) -> dict[str, Any]:
    """Gather features and train within a memory limit."""
    extractor, settings = job.extractor(), job.ensemble()

    def training(pixels: int, inputs: int) -> int:
        return training_bytes(settings, pixels=pixels, inputs=inputs, classes=CLASSES, device=CPU)

    begin = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        room = MemoryLimits(Path(folder), job.ceiling_gb, training)
        table = gather_pixels(extractor, crops_of(job), PixelDraw(PIXELS, "classes", seed=0), room=room)
        found = _seconds("features", begin) | {"features_peak_mb": memory_mb("VmHWM")}
        found["features_cpu_s"] += extractor.cpu_s * (job.crops / math.ceil(job.crops / job.reuse) - 1)
        extractor.forget()
        found |= {"table": "memory" if isinstance(table.features, torch.Tensor) else "disk", "pixels": len(table.crops)}
        begin = time.perf_counter(), time.process_time()
        train_ensemble(table, CLASSES, slides=_slides(job), settings=settings, device=CPU)
        return found | _seconds("training", begin) | {"table_gb": 2 * len(table.crops) * sum(extractor.channels) / 1e9}


def dense(job: Job) -> dict[str, Any]:
    """Upsample all features of all crops to full size, concatenate them, and train on every pixel."""
    extractor, settings = job.extractor(), job.ensemble()
    crops, stacks = crops_of(job), []
    begin = time.perf_counter(), time.process_time()
    for picture, _ in crops:
        stacks.append(full_size(extractor(to_input(picture[None]))))
        extractor.forget()
    features = torch.cat(stacks)
    classes = torch.from_numpy(np.concatenate([labels.ravel() for _, labels in crops]).astype(np.int64))
    found = _seconds("features", begin) | {"features_peak_mb": memory_mb("VmHWM"), "table": "memory"}
    begin = time.perf_counter(), time.process_time()
    counts = {i: int((classes == i).sum()) for i in range(CLASSES)}
    numbers = torch.arange(job.crops).repeat_interleave(job.size_px**2)
    table = PixelTable(features, classes, numbers, counts)
    train_ensemble(table, CLASSES, slides=_slides(job), settings=settings, device=CPU)
    sizes = {"pixels": len(classes), "table_gb": features.nbytes / 1e9}
    return found | _seconds("training", begin) | sizes


def _slides(job: Job) -> list[str]:
    return [f"crop {number}" for number in range(job.crops)]


def full_size(features: NativeFeatures) -> torch.Tensor:
    """Return (H * W, D) float32, as the reference code stores it."""
    grown = torch.empty(*features.size, sum(m.shape[1] for m in features.maps))
    start = 0
    for native in features.maps:
        end = start + native.shape[1]
        grown[:, :, start:end] = F.interpolate(native, features.size, mode="bilinear")[0].permute(1, 2, 0)
        start = end
    return grown.flatten(0, 1)


def _seconds(what: str, begin: tuple[float, float]) -> dict[str, float]:
    return {f"{what}_s": time.perf_counter() - begin[0], f"{what}_cpu_s": time.process_time() - begin[1]}


def main() -> None:
    """Do one job and report its time and memory."""
    job = Job(**json.loads(sys.argv[1]))
    tune_cpu_allocator()
    found = {"ours": ours, "dense": dense}[job.kind](job)
    print(json.dumps(found | {"peak_mb": memory_mb("VmHWM"), "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
