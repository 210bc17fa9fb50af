"""Crop rate and memory of one reader in a separate process.

Started by crops.py with a job as JSON. Each reader imports its own libraries, so that no others are counted.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from machine import memory_mb

from cytoseg.slides.settings import BackgroundSection, CropsSection, SlidesSection

CROP_PX = 256
CHECKED = 4  # crops whose means show that all readers read the same places
_PLACES = 20_000


@dataclass
class Job:
    """What to read: ``path`` is a pyramid or a folder of fields; ``size`` is their width and height."""

    reader: str
    path: Path
    size: tuple[int, int]
    seconds: float
    most: int
    imports_mb: float = 0.0
    places: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        random = np.random.default_rng(0)
        xs, ys = (random.integers(0, side - CROP_PX, _PLACES).tolist() for side in self.size)
        self.places = list(zip(xs, ys, strict=True))
        self.files = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
        self.chosen = random.integers(0, len(self.files), _PLACES).tolist()

    def imported(self) -> None:
        """Called by a reader once its libraries are imported."""
        self.imports_mb = memory_mb("VmRSS")


Read = Callable[[int], Any]


def read_region(job: Job) -> Read:
    """cytoseg's reader alone: an open pyramid, or fields opened one by one."""
    from cytoseg.geometry import Region, Size
    from cytoseg.slides.open import open_slide, read_at

    job.imported()
    slides = {path: open_slide(path) for path in job.files[:1]} if len(job.files) == 1 else {}

    def read(i: int) -> Any:
        path = job.files[job.chosen[i]]
        slide = slides.get(path) or open_slide(path)
        return read_at(slide, Region(*job.places[i], CROP_PX, CROP_PX), Size(CROP_PX, CROP_PX))

    return read


def random_crop(job: Job) -> Read:
    """cytoseg's MONAI transform: random place, region as a tensor."""
    return _slide_crops(job, None)


def training_crop(job: Job) -> Read:
    """Input of the training: random place, flips, rotations, values from -1 to 1."""
    return _slide_crops(job, 0.0)


def training_crop_jittered(job: Job) -> Read:
    """The same with colour jitter."""
    return _slide_crops(job, 0.1)


def _slide_crops(job: Job, jitter: float | None) -> Read:
    import torch

    from cytoseg.slides.crops import RandSlideCropd, SlideCrops, augmentation
    from cytoseg.slides.tissue_sources import find_tissue

    torch.set_num_threads(1)
    job.imported()
    sources = find_tissue(job.files, size_px=CROP_PX, settings=SlidesSection(background=BackgroundSection("none")))
    steps = [] if jitter is None else augmentation(CropsSection(flips=True, turns=True, jitter=jitter))
    crop = RandSlideCropd(["image"], sources=sources, size_px=CROP_PX)
    crops = SlideCrops([crop, *steps], seed=0, first=0, last=10**9)
    return lambda i: crops[i]


def monai_tifffile(job: Job) -> Read:
    """MONAI's PatchWSIDataset with its tifffile reader."""
    return _patch_dataset(job, "tifffile")


def monai_openslide(job: Job) -> Read:
    """MONAI's PatchWSIDataset with its OpenSlide reader."""
    return _patch_dataset(job, "openslide")


def _patch_dataset(job: Job, reader: str) -> Read:
    import torch
    from monai.data import PatchWSIDataset

    torch.set_num_threads(1)
    job.imported()
    files = [str(job.files[number]) for number in job.chosen]
    data = [{"image": file, "location": [y, x]} for file, (x, y) in zip(files, job.places, strict=True)]
    crops = PatchWSIDataset(
        data, patch_size=CROP_PX, patch_level=0, include_label=False, center_location=False, reader=reader
    )
    return lambda i: crops[i]["image"].permute(1, 2, 0)


def monai_picture(job: Job) -> Read:
    """MONAI's usual transforms for images: LoadImaged, then RandSpatialCropd."""
    import torch
    from monai.transforms import Compose, LoadImaged, RandSpatialCropd

    torch.set_num_threads(1)
    job.imported()
    load = LoadImaged(["image"], reader="PILReader", ensure_channel_first=True, dtype=np.uint8)
    crop = Compose([load, RandSpatialCropd(["image"], roi_size=(CROP_PX, CROP_PX), random_size=False)])
    return lambda i: crop({"image": str(job.files[job.chosen[i]])})["image"]


def openslide_python(job: Job) -> Read:
    """OpenSlide's Python binding."""
    import openslide

    job.imported()
    slide = openslide.OpenSlide(job.path)
    return lambda i: np.asarray(slide.read_region(job.places[i], 0, (CROP_PX, CROP_PX)))[..., :3]


def tiffslide_python(job: Job) -> Read:
    """Tiffslide."""
    import tiffslide  # type: ignore[import-not-found] # installed for the comparison only

    job.imported()
    slide = tiffslide.TiffSlide(job.path)
    return lambda i: slide.read_region(job.places[i], 0, (CROP_PX, CROP_PX), as_array=True)


READERS: dict[str, Callable[[Job], Read]] = {
    reader.__name__: reader
    for reader in (
        read_region,
        random_crop,
        training_crop,
        training_crop_jittered,
        monai_tifffile,
        monai_openslide,
        monai_picture,
        openslide_python,
        tiffslide_python,
    )
}


def measure(job: Job) -> dict[str, Any]:
    """Read for a while after a short warm-up."""
    read = READERS[job.reader](job)
    means = [float(np.asarray(read(i), np.float64).mean()) for i in range(min(CHECKED, job.most))]
    begin, cpu, crops = time.perf_counter(), time.process_time(), 0
    while crops < job.most and time.perf_counter() - begin < job.seconds:
        read((CHECKED + crops) % _PLACES)
        crops += 1
    wall_s, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
    return {
        "means": means,
        "crops": crops,
        "per_s": crops / wall_s,
        "per_cpu_s": crops / cpu_s,
        "peak_mb": memory_mb("VmHWM"),
        "imports_mb": job.imports_mb,
    }


if __name__ == "__main__":
    try:
        print(json.dumps(measure(Job(**json.loads(sys.argv[1])))))
    except ImportError as error:
        print(json.dumps({"failed": f"not installed ({error})"}))
