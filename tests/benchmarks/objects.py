"""Time and memory of extracting a slide's objects from synthetic maps: nuclei in cytoplasm, some touching or in sheets.

    python -m tests.benchmarks.objects 8000 40000
    python -m tests.benchmarks.objects 16000 40000

One size per call, because memory is the peak of the process.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import ClassList
from cytoseg.geometry import Size
from cytoseg.maps.map_spool import MapBand, MapSpool
from cytoseg.objects.find_objects import write_objects
from cytoseg.objects.object_writer import SlideMaps
from cytoseg.objects.settings import ObjectSettings
from cytoseg.slides.open import open_slide
from cytoseg.slides.pyramid import write_pyramid

CLASSES = ClassList(
    ("background", "cytoplasm", "nucleus"), ((240, 240, 240), (86, 180, 233), (213, 94, 0)), "background"
)
SETTINGS = ObjectSettings(("cytoplasm", "nucleus"), ("nucleus",), 16, "nucleus", "cytoplasm")
BAND_PX, REACH_PX = 256, 24


def make_maps(folder: Path, side: int, nuclei: int) -> None:
    """Scatter cells evenly at random, one in three with a second nucleus that touches the first."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0, side, (nuclei * 3 // 4, 2))
    spool = MapSpool(folder, size=Size(side, side))
    for top in range(0, side, BAND_PX):
        ids = np.zeros((min(BAND_PX, side - top), side), np.uint8)
        near = places[(places[:, 1] > top - REACH_PX) & (places[:, 1] < top + BAND_PX + REACH_PX)]
        for radius, class_id, shift in ((14, 1, 0.0), (5, 2, 0.0), (5, 2, 8.5)):
            for x, y in near:
                if not shift or int(x * 1000) % 3 == 0:
                    _disc(ids, x + shift, y - top, radius, class_id)
        noise = rng.integers(150, 256, ids.shape, np.uint8)
        spool.write(MapBand(ids, (255 - noise).astype(np.float32) / 255, noise), x=0, y=top)


def _disc(ids: NDArray[np.uint8], x: float, y: float, radius: int, class_id: int) -> None:
    rows = slice(max(0, int(y) - radius), max(0, int(y) + radius + 1))
    columns = slice(max(0, int(x) - radius), max(0, int(x) + radius + 1))
    part = ids[rows, columns]
    if part.size:
        row = np.arange(rows.start, rows.start + part.shape[0])[:, None] + 0.5
        column = np.arange(columns.start, columns.start + part.shape[1]) + 0.5
        part[(row - y) ** 2 + (column - x) ** 2 <= radius**2] = class_id


def make(folder: Path, side: int, nuclei: int) -> None:
    """Generate the maps and a slide of one colour."""
    make_maps(folder, side, nuclei)
    bands = (np.full((min(BAND_PX, side - top), side, 3), 200, np.uint8) for top in range(0, side, BAND_PX))
    write_pyramid(folder / "slide.ome.tif", bands, size=Size(side, side), mpp=0.5)


def main(side: int, nuclei: int) -> None:
    """Generate the maps and a slide, write the objects, and print time and memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a separate process, so that its memory is not counted.
        maker = multiprocessing.get_context("spawn").Process(target=make, args=(folder, side, nuclei))
        maker.start()
        maker.join()
        before, begin, busy = _peak_mb(), time.perf_counter(), time.process_time()
        with open_slide(folder / "slide.ome.tif") as slide:
            maps = SlideMaps(MapSpool(folder, size=Size(side, side)), slide, Size(side, side), 1.0, 0.5, CLASSES)
            totals = write_objects(folder, maps, settings=SETTINGS, on_row=lambda done, total: None)
        seconds, busy = time.perf_counter() - begin, time.process_time() - busy
        objects = sum(entry.objects for entry in totals.classes.values())
        print(totals.record())
        print(f"{side} px: {objects} objects in {seconds:.1f} s, CPU time {busy:.1f} s;")
        print(f"peak memory {_peak_mb():.0f} MB, {before:.0f} MB before")


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
