"""How long a training step waits for crops. Writes results/loader_wait_DEVICE.md and .json.

Run: python tests/benchmarks/loader_wait.py [--device cpu|cuda] [--steps 40]
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from machine import Table, describe, shared_note, write_results
from made_files import draw_picture, encode_tiles, write_big_pyramid
from steppers import Job
from torch.utils.data import DataLoader

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.diffusion import train_steps as loop
from cytoseg.diffusion.train_steps import new_accelerator, new_state, train_steps
from cytoseg.workflows.training_crops import settings_of, tissue_crops, training_crops

SIDE_PX = 30_000
WARM_STEPS = 5
NETWORKS = {
    "cpu": ({"dim": 32, "size_px": 64, "batch": 8}, (0, 1)),
    "cuda": ({"dim": 64, "size_px": 256, "batch": 16}, (0, 1, 2, 4, 8)),
}


class TimedLoader(DataLoader[Any]):
    """A DataLoader that records how long each batch was waited for."""

    waits: list[float]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override] # a generator is enough for the loop
        self.__class__.waits = []
        batches = super().__iter__()
        while True:
            begin = time.perf_counter()
            batch = next(batches, None)
            self.waits.append(time.perf_counter() - begin)
            if batch is None:
                return
            yield batch


def wait_row(job: Job, count: int) -> list[Any]:
    """Train for some steps with the loop of ``cytoseg train-ddpm`` and return a row of the table."""
    recipe, device = job.recipe(), torch.device(job.device)
    settings = settings_of(recipe)
    crops = training_crops(recipe, tissue_crops(recipe))(0)
    accelerator = new_accelerator(settings, device)
    state = new_state(recipe.architecture(), settings)
    seconds = []
    with mock.patch.object(loop, "DataLoader", TimedLoader):
        taken = iter(train_steps(state, crops, settings=settings, accelerator=accelerator))
        for _ in range(WARM_STEPS + count):
            begin = time.perf_counter()
            next(taken)
            seconds.append(time.perf_counter() - begin)
        if device.type == "cuda":
            torch.cuda.synchronize()
    total, waits = sum(seconds[WARM_STEPS:]), TimedLoader.waits[WARM_STEPS : WARM_STEPS + count]
    rate = f"{count * job.batch / total:.3g}"
    return [
        job.workers,
        f"{total / count:.3f}",
        f"{statistics.median(waits) * 1e3:.1f}",
        rate,
        f"{sum(waits) / total:.1%}",
    ]


def main() -> None:
    """Write a pyramid to a temporary folder, train on it, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=tuple(NETWORKS), default="cpu")
    parser.add_argument("--steps", type=int, default=40, help="measured steps for each number of workers")
    options = parser.parse_args()
    machine = describe()
    network, workers = NETWORKS[options.device]
    if options.device == "cpu":
        tune_cpu_allocator()
    with tempfile.TemporaryDirectory(prefix="cytoseg-wait-") as folder:
        write_big_pyramid(Path(folder) / "pyramid.tif", SIDE_PX, encode_tiles(draw_picture(2048)))
        base = Job("cytoseg", folder, **network, precision="no", workers=0, device=options.device, tuned=True)
        rows = [wait_row(Job(**(asdict(base) | {"workers": number})), options.steps) for number in workers]
    size = ", ".join(f"{key} {value}" for key, value in network.items())
    table = Table(
        size,
        f"Crops with flips and turns from a JPEG pyramid of {SIDE_PX:,} px; {options.steps} steps after {WARM_STEPS}.",
        ("workers", "s a step", "wait at the median step, ms", "crops/s", "share of the time that is waited"),
        rows,
    )
    notes = f"Wall-clock time; threads: {torch.get_num_threads()}. {shared_note(machine)}"
    name = f"loader_wait_{options.device}"
    print(write_results(name, "Waiting for crops", [table], machine=machine, notes=notes), file=sys.stdout)


if __name__ == "__main__":
    main()
