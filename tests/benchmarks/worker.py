"""The memory of one DataLoader worker that reads training crops of 256 px from a pyramid; started by crops.py."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from machine import memory_mb
from torch.utils.data import DataLoader

from cytoseg.slides.crops import RandSlideCropd, SlideCrops, augmentation
from cytoseg.slides.settings import BackgroundSection, CropsSection, SlidesSection
from cytoseg.slides.tissue_sources import find_tissue

CROP_PX, BATCH = 256, 16


def measure(paths: list[Path], seconds: float) -> dict[str, Any]:
    """Read for a while, then measure the worker."""
    torch.set_num_threads(1)
    sources = find_tissue(paths, size_px=CROP_PX, settings=SlidesSection(background=BackgroundSection("none")))
    crop = RandSlideCropd(["image"], sources=sources, size_px=CROP_PX)
    crops = SlideCrops([crop, *augmentation(CropsSection())], seed=0, first=0, last=10**6)
    batches = iter(DataLoader(crops, batch_size=BATCH, num_workers=1))
    worker: int = batches._workers[0].pid  # type: ignore[attr-defined] # torch offers no public access to it
    begin, count, halfway = time.perf_counter(), 0, 0.0
    while (now := time.perf_counter() - begin) < seconds:
        next(batches)
        count += BATCH
        halfway = halfway or (memory_mb("Private", worker) if now > seconds / 2 else 0.0)
    return {
        "crops": count,
        "parent_mb": memory_mb("VmRSS"),
        "worker_rss_mb": memory_mb("VmHWM", worker),
        "worker_own_halfway_mb": halfway,
        "worker_own_mb": memory_mb("Private", worker),
    }


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    print(json.dumps(measure([Path(path) for path in job["paths"]], job["seconds"])))
