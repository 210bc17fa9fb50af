"""Time per tile of the slide viewer, and whether many tiles leak memory.

    python tests/benchmarks/viewer_tiles.py SLIDE CLASS_MAP

Both are OME-TIFF pyramids of one size, such as a synthetic slide and its ``.labels.ome.tif``. The tiles are
rendered as in the review app, without the web server: 200 at random places and zoom levels, then the requested number.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import Table, describe, memory_mb, shared_note, write_results

from cytoseg.classes import ClassList
from cytoseg.geometry import Size
from cytoseg.maps.raster import Raster
from cytoseg.slides.pyramid import write_pyramid
from cytoseg.viewer.deep_zoom import TilePyramid
from cytoseg.viewer.slide_catalogue import CatalogueEntry
from cytoseg.viewer.tile_service import CLASSES, DISAGREEMENT, SLIDE, TRUTH, Subject, TileService

NAMES = ("background", "cytoplasm", "nucleus")
LIST = ClassList(NAMES, ((240, 240, 240), (86, 180, 233), (213, 94, 0)), "background")
TIMED, BAND_PX = 200, 256
Place = tuple[int, int, int]


def _subject(slide: Path, class_map: Path, folder: Path) -> Subject:
    """Create a prediction of the slide: the class map unchanged, and its edges as uncertainty."""
    (folder / "class_map.ome.tif").write_bytes(class_map.read_bytes())
    with Raster(class_map) as raster:
        size = raster.levels[0].size
        bands = (_edges(raster, y, size) for y in range(0, size.height, BAND_PX))
        write_pyramid(folder / "uncertainty.ome.tif", bands, size=size, mpp=None)
    (folder / "summary.json").write_text(json.dumps({"classes": dict.fromkeys(NAMES)}))
    return Subject(CatalogueEntry("slide", "slide", slide.resolve(), folder), LIST, folder / "labels")


def _edges(raster: Raster, y: int, size: Size) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    ids = raster.sample(np.arange(y, min(y + BAND_PX, size.height)), np.arange(size.width))
    nats = np.zeros(ids.shape, np.float32)
    nats[:, 1:] = (ids[:, 1:] != ids[:, :-1]) * np.float32(0.4)
    return nats


def _places(size: Size, count: int, seed: int) -> list[Place]:
    pyramid, random, found = TilePyramid(size), np.random.default_rng(seed), []
    for step in random.integers(0, pyramid.finest + 1, count).tolist():
        grid = pyramid.grid(step)
        found.append((step, int(random.integers(grid.width)), int(random.integers(grid.height))))
    return found


def _timed(make: Callable[[Place], bytes], places: list[Place]) -> list[float]:
    taken = []
    for place in places:
        begin = time.perf_counter()
        make(place)
        taken.append(1000 * (time.perf_counter() - begin))
    return taken


def _row(name: str, taken: list[float], bytes_mean: float) -> list[str]:
    middle, slow = np.percentile(taken, [50, 95])
    return [name, f"{middle:.1f}", f"{slow:.1f}", f"{max(taken):.0f}", f"{bytes_mean / 1000:.1f}"]


def _many(make: Callable[[Place], bytes], places: list[Place], threads: int) -> float:
    """Render tiles from several threads; return the seconds."""
    begin = time.perf_counter()
    parts = [
        threading.Thread(target=lambda part: [make(p) for p in part], args=(places[i::threads],))
        for i in range(threads)
    ]
    for part in parts:
        part.start()
    for part in parts:
        part.join()
    return time.perf_counter() - begin


def main() -> None:
    """Time the tiles and write the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("slide", type=Path)
    parser.add_argument("class_map", type=Path)
    parser.add_argument("--tiles", type=int, default=2000, help="number of tiles for the memory test")
    given = parser.parse_args()
    machine, service = describe(), TileService()
    with tempfile.TemporaryDirectory() as folder:
        subject = _subject(given.slide, given.class_map, Path(folder))
        size = service.describe(subject).size
        places = _places(size, TIMED, 0)
        rows, memory = [], [[0, f"{memory_mb('VmRSS'):.0f}"]]
        for layer in (SLIDE, CLASSES, DISAGREEMENT, TRUTH):

            def make(place: Place, layer: str = layer) -> bytes:
                return service.tile(subject, layer, place, shown={1, 2})

            make((0, 0, 0))
            taken = _timed(make, places)
            rows.append(_row(layer, taken, float(np.mean([len(make(place)) for place in places[:50]]))))

        def both(place: Place) -> bytes:
            return service.tile(subject, SLIDE, place, shown=()) + service.tile(subject, CLASSES, place, shown={1, 2})

        for quarter in range(4):
            seconds = _many(both, _places(size, given.tiles // 8, 10 + quarter), 4)
            memory.append([(quarter + 1) * given.tiles // 4, f"{memory_mb('VmRSS'):.0f}"])
        service.close()
    tables = [
        Table(
            "Milliseconds per tile",
            f"{TIMED} tiles of {size.width} x {size.height} px, at all steps, one thread.",
            ("layer", "median", "95 %", "slowest", "kB"),
            rows,
        ),
        Table(
            "Memory",
            f"Slide and class map from four threads; {given.tiles / 4 / seconds:.0f} tiles per second at the end.",
            ("tiles", "RSS (MB)"),
            memory,
        ),
    ]
    print(
        write_results("viewer_tiles", "Tiles of the slide viewer", tables, machine=machine, notes=shared_note(machine))
    )


if __name__ == "__main__":
    main()
