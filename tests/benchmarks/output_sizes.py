"""Bytes, seconds and outline IoU of everything written for one predicted slide, on synthetic maps.

    python -m tests.benchmarks.output_sizes 10000

The maps hold irregular cells with one nucleus each. Their uncertainty peaks at borders over a low noise floor, adjusted
to the compression ratio of the quickstart demo's maps. No network runs: only the writing is measured.
"""

import json
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import shapely
import shapely.geometry
from numpy.typing import NDArray
from scipy import ndimage

from cytoseg.classes import ClassList
from cytoseg.geometry import Size
from cytoseg.maps.map_spool import MapBand, MapSpool
from cytoseg.objects.object_writer import OUTLINES, ZIPPED_OUTLINES
from cytoseg.objects.settings import ObjectSettings
from cytoseg.predict.outputs import Destination, SlideFacts, write_outputs
from cytoseg.slides.open import open_slide
from cytoseg.slides.pyramid import write_pyramid
from cytoseg.slides.tiling import TileGrid

CLASSES = ClassList(
    ("background", "cytoplasm", "nucleus"), ((240, 240, 240), (86, 180, 233), (213, 94, 0)), "background"
)
BLOCK_PX = 1000
CELLS_PER_BLOCK = 100
IOU_EVERY = 50
"""One object in this many is compared with its exact outline."""


def make_block(seed: int) -> MapBand:
    """Draw one square of cells with their uncertainty and confidence."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((BLOCK_PX, BLOCK_PX), np.uint8)
    for x, y in rng.uniform(50, BLOCK_PX - 50, (CELLS_PER_BLOCK, 2)):
        _blob(ids, x, y, rng.uniform(18, 38), 1, rng)
    for x, y in rng.uniform(50, BLOCK_PX - 50, (CELLS_PER_BLOCK, 2)):
        _blob(ids, x, y, rng.uniform(6, 10), 2, rng)
    border = np.zeros(ids.shape, np.bool_)
    for axis in (0, 1):
        border |= ids != np.roll(ids, 1, axis)
    distance = ndimage.distance_transform_edt(~border)
    smooth = ndimage.gaussian_filter(rng.standard_normal(ids.shape), 4)
    peak = 0.03 * np.exp(smooth / smooth.std() - distance / 1.5)
    nats = (peak + np.abs(rng.standard_normal(ids.shape)) * 0.0004).astype(np.float32)
    return MapBand(ids, nats, (255 * np.exp(-2 * nats)).clip(1, 255).astype(np.uint8))


def _blob(ids: NDArray[np.uint8], x: float, y: float, radius: float, class_id: int, rng: np.random.Generator) -> None:
    """Draw a disc whose radius varies by up to a fifth."""
    reach = int(radius * 1.3) + 1
    left, top = int(x) - reach, int(y) - reach
    rows, columns = np.mgrid[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
    angle = np.arctan2(rows - y, columns - x)
    wobble = sum(0.08 / k * np.cos(k * angle + rng.uniform(0, 6.28)) for k in (2, 3, 5))
    inside = np.hypot(rows - y, columns - x) <= radius * (1 + wobble)
    part = ids[max(top, 0) : top + 2 * reach + 1, max(left, 0) : left + 2 * reach + 1]
    part[inside[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]]] = class_id


def make(folder: Path, side: int) -> None:
    """Write the maps to a spool, and a slide of one colour beside it."""
    spool, size = MapSpool(folder, size=Size(side, side)), Size(side, side)
    blocks = [make_block(seed) for seed in range(4)]
    for number, (y, x) in enumerate(np.ndindex(-(-side // BLOCK_PX), -(-side // BLOCK_PX))):
        high, wide = min(BLOCK_PX, side - y * BLOCK_PX), min(BLOCK_PX, side - x * BLOCK_PX)
        block = blocks[number * 7 // 3 % len(blocks)]
        part = (block.ids[:high, :wide], block.uncertainty[:high, :wide], block.confidence[:high, :wide])
        spool.write(MapBand(*part), x=x * BLOCK_PX, y=y * BLOCK_PX)
    spool.finish(side)
    bands = (np.full((min(256, side - top), side, 3), 200, np.uint8) for top in range(0, side, 256))
    write_pyramid(folder / "slide.ome.tif", bands, size=size, mpp=0.5)


def write(folder: Path, made: Path, side: int, *, exact: bool, bits: int) -> float:
    """Write all outputs; return the CPU seconds."""
    folder.mkdir()
    settings = ObjectSettings(("cytoplasm", "nucleus"), (), 16, "nucleus", "cytoplasm", False, exact)
    destination = Destination(folder, CLASSES, {}, settings, uncertainty_bits=bits)
    begin = time.process_time()
    with open_slide(made / "slide.ome.tif") as slide:
        facts = SlideFacts(slide, TileGrid(Size(side, side), 256, 64), 0.5, "", 0, 0.0, time.perf_counter())
        spool = MapSpool(made, size=Size(side, side))
        write_outputs(folder, destination, facts=facts, spool=spool, on_row=lambda done, total: None)
    return time.process_time() - begin


def outline_ious(folder: Path, exact: Path) -> list[float]:
    """Compare every 50th outline with the exact one of the same name, as polygons."""
    ious = []
    with (folder / OUTLINES).open(encoding="utf-8") as ours, (exact / OUTLINES).open(encoding="utf-8") as theirs:
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            if number % IOU_EVERY == 1 and one.startswith("{"):
                a, b = (_polygon(line) for line in (one, other))
                ious.append(a.intersection(b).area / a.union(b).area)
    return ious


def step_bytes(exact: Path) -> int:
    """Return the bytes of exact outlines with a corner at every pixel step."""
    total = total_of(exact)
    for line in (exact / OUTLINES).read_text(encoding="utf-8").splitlines():
        if line.startswith('{"type":"Feature",'):
            for ring in shapely.get_parts(shapely.get_rings(_polygon(line))):
                points = shapely.get_coordinates(ring)
                lengths = np.abs(np.diff(points, axis=0)).sum(axis=1)
                each = [len(f"[{int(x)},{int(y)}],") for x, y in points[1:]]
                total += int(((lengths - 1) * each).sum())
    return total


def total_of(folder: Path) -> int:
    """Return the bytes of the outlines."""
    return (folder / OUTLINES).stat().st_size


def zipped_bytes(folder: Path) -> int:
    """Return the bytes of the outlines as ``zip_outlines`` writes them."""
    path = folder / ZIPPED_OUTLINES
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / OUTLINES, OUTLINES)
    size = path.stat().st_size
    path.unlink()
    return size


def _polygon(line: str) -> shapely.Geometry:
    return shapely.geometry.shape(json.loads(line.rstrip().rstrip(","))["geometry"])


def main(side: int) -> None:
    """Write the outputs with the default settings and with everything kept, and print the table."""
    with tempfile.TemporaryDirectory() as name:
        made, now, all_kept = (Path(name) / part for part in ("made", "now", "kept"))
        made.mkdir()
        make(made, side)
        seconds = write(now, made, side, exact=False, bits=8), write(all_kept, made, side, exact=True, bits=32)
        print(f"| {side} px, bytes | exact outlines, 32-bit | defaults | share |\n| --- | --- | --- | --- |")
        total = [0, 0]
        for path in sorted(now.iterdir()):
            sizes = (all_kept / path.name).stat().st_size, path.stat().st_size
            total = [total[0] + sizes[0], total[1] + sizes[1]]
            print(f"| {path.name} | {sizes[0]:,} | {sizes[1]:,} | {sizes[1] / sizes[0]:.3f} |")
        print(f"| together | {total[0]:,} | {total[1]:,} | {total[1] / total[0]:.3f} |")
        steps, zipped = step_bytes(all_kept), zipped_bytes(now)
        print(f"| outlines, share of a corner at every pixel step | | {total_of(now) / steps:.3f} | |")
        print(f"| the same zipped | | {zipped / steps:.3f} | {zipped / total_of(all_kept):.3f} |")
        ious = outline_ious(now, all_kept)
        print(f"| CPU seconds | {seconds[1]:.1f} | {seconds[0]:.1f} | |")
        print(f"outline IoU of {len(ious)} objects: mean {np.mean(ious):.4f}, least {min(ious):.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
