"""One method of segmenting a tile in a separate process, run on request; started by predict_tile.py.

A job is passed as JSON. Each line on stdin asks for one tile; the answer is a line of JSON after ``@``.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from machine import memory_mb
from made_files import draw_picture
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.classes import ClassList
from cytoseg.diffusion.architecture import Architecture, tap_names, tap_shapes
from cytoseg.diffusion.unet import build_unet
from cytoseg.features.extract import FeatureExtractor, to_input
from cytoseg.features.settings import FeatureSettings
from cytoseg.interpreter.bundle import Bundle, EnsemblePredictor
from cytoseg.interpreter.mlp import Ensemble

CPU, TIMESTEPS, MEMBERS, CLASSES, BLOCK_PX = torch.device("cpu"), (50, 100, 150), 10, 3, 4096


@dataclass(frozen=True)
class Job:
    """A job: ``way`` is ``bare``, ``ours`` or ``dense``."""

    way: str
    dim: int
    size_px: int
    precision: str

    def bundle(self) -> Bundle:
        """Create a bundle with random weights."""
        architecture = Architecture(dim=self.dim, dim_mults=(1, 2, 4, 8))
        features = FeatureSettings(tap_names(architecture), TIMESTEPS, scale=1, noise_seed=0)
        channels = len(TIMESTEPS) * sum(count for count, _ in tap_shapes(architecture, features.taps))
        ensemble = Ensemble(MEMBERS, channels, CLASSES, seed=0).eval()
        classes = ClassList(("a", "b", "c"), ((0, 0, 0),) * CLASSES, None)
        unet = build_unet(architecture).eval()
        return Bundle(unet, architecture, ensemble, features, classes, None, "soft", self.precision, {})


Segment = Callable[[NDArray[np.uint8]], Any]


def bare(job: Job) -> Segment:
    """Only three forward passes of the whole network."""
    bundle = job.bundle()
    unet = bundle.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack this keyword

    @torch.inference_mode()
    def segment(tile: NDArray[np.uint8]) -> None:
        x = to_input(tile[None]).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=job.precision == "bf16"):
            for t in TIMESTEPS:
                unet(x, torch.tensor([t]))

    return segment


def ours(job: Job) -> Segment:
    """A tile as ``cytoseg predict`` segments it."""
    predictor = EnsemblePredictor(job.bundle(), device=CPU)
    return lambda tile: predictor(tile[None])["probabilities"].argmax(1)


def dense(job: Job) -> Segment:
    """Full-size features concatenated, and every interpreter applied to every pixel in blocks."""
    bundle = job.bundle()
    extract = FeatureExtractor(bundle.unet, bundle.architecture, bundle.features, device=CPU, precision=job.precision)
    ensemble = bundle.interpreter

    @torch.inference_mode()
    def segment(tile: NDArray[np.uint8]) -> Tensor:
        stack = _joined(extract(to_input(tile[None])).maps, (job.size_px, job.size_px))
        pixels = stack.flatten(1).T
        found = []
        for block in torch.split(pixels, BLOCK_PX):
            standard = ((block - ensemble.mean) / ensemble.scale).contiguous()
            first = (standard @ ensemble.weight1[m] + ensemble.bias1[m] for m in range(MEMBERS))
            logits = ensemble.scores(ensemble._second(torch.stack(list(first))))
            found.append(logits.softmax(2).mean(0).argmax(1))
        return torch.cat(found)

    return segment


def _joined(maps: list[Tensor], size: tuple[int, int]) -> Tensor:
    """Return (D, H, W), written in place; the reference code needs twice the memory."""
    stack = torch.empty(sum(m.shape[1] for m in maps), *size)
    start = 0
    for native in maps:
        stack[start : start + native.shape[1]] = F.interpolate(native, size, mode="bilinear")[0]
        start += native.shape[1]
    return stack


def main() -> None:
    """Set everything up, then segment a tile for each line."""
    job = Job(**json.loads(sys.argv[1]))
    tune_cpu_allocator()
    segment = {"bare": bare, "ours": ours, "dense": dense}[job.way](job)
    tile = draw_picture(job.size_px)
    for _ in sys.stdin:
        begin, cpu = time.perf_counter(), time.process_time()
        segment(tile)
        times = {"s": time.perf_counter() - begin, "cpu_s": time.process_time() - cpu}
        memory = {"peak_mb": memory_mb("VmHWM"), "threads": torch.get_num_threads()}
        print("@" + json.dumps(times | memory), flush=True)


if __name__ == "__main__":
    main()
