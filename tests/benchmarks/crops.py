"""Crops per second and memory of random 256 px reads, compared with other readers. Writes results/crops.md and .json.

Run: python tests/benchmarks/crops.py [--rounds 3] [--seconds 4]
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import Table, available_mb, describe, run_child, shared_note, write_results
from made_files import FIELD, SIDE_TILES, draw_picture, encode_tiles, write_big_pyramid, write_fields

from cytoseg.slides.pyramid import TILE_PX

SIDES_PX = (10_000, 30_000, 100_000)
COMPARED_PX = 30_000
FIELDS = 1000
OURS = {
    "cytoseg, open_slide + read_at": "read_region",
    "cytoseg, RandSlideCropd": "random_crop",
    "cytoseg, SlideCrops: flips, turns, [-1, 1]": "training_crop",
    "cytoseg, SlideCrops: also jitter": "training_crop_jittered",
}
PEERS = {
    "MONAI PatchWSIDataset, tifffile": "monai_tifffile",
    "MONAI PatchWSIDataset, openslide": "monai_openslide",
    "openslide-python": "openslide_python",
    "tiffslide": "tiffslide_python",
}
PICTURE_PEERS = {
    "MONAI PatchWSIDataset, tifffile": "monai_tifffile",
    "MONAI PatchWSIDataset, openslide": "monai_openslide",
    "MONAI LoadImaged + RandSpatialCropd": "monai_picture",
}
SLOW = {"monai_tifffile"}  # decodes the whole level for every crop
SLOW_CROPS, CHILD_S = 1, 600.0
COLUMNS = ("reader", "crops/s of one core", "range", "crops/s by the clock", "peak RSS, MB", "above its imports, MB")
SIZE_COLUMNS = (
    "slide",
    "read_at, crops/s of one core",
    "peak RSS, MB",
    "above its imports, MB",
    "SlideCrops, crops/s of one core",
    "worker's peak RSS, MB",
    "worker's own memory, MB",
)
SAME_PLACES = {"read_region", "monai_tifffile", "monai_openslide", "openslide_python", "tiffslide_python"}


@dataclass
class Row:
    """Results of one reader in all rounds."""

    name: str
    reader: str
    path: Path
    size: tuple[int, int]
    found: list[dict[str, Any]] = field(default_factory=list)
    failed: str = ""

    def run(self, seconds: float) -> None:
        """Measure again, unless the reader has failed, or is slow and has been measured."""
        slow = self.reader in SLOW and self.path.is_file()
        if self.failed or (slow and self.found):
            return
        need_mb = 2 * 3 * self.size[0] * self.size[1] / 1e6 if slow else 0.0
        if need_mb * 1.2 > available_mb():
            self.failed = f"not run: holds the level twice, {need_mb:.0f} MB, and {available_mb():.0f} MB are free"
            return
        job: dict[str, Any] = {"reader": self.reader, "path": str(self.path), "size": self.size}
        job |= {"seconds": CHILD_S, "most": SLOW_CROPS} if slow else {"seconds": seconds, "most": 10**6}
        found = run_child("readers.py", job, timeout_s=CHILD_S)
        self.failed = found.get("failed", "")
        if not self.failed:
            self.found.append(found)

    def cells(self) -> list[Any]:
        """Return the row of the table."""
        if self.failed:
            return [self.name, self.failed.replace(str(self.path.parent), ""), *[""] * (len(COLUMNS) - 2)]
        rates = [found["per_cpu_s"] for found in self.found]
        peak = max(found["peak_mb"] for found in self.found)
        imports = statistics.median(found["imports_mb"] for found in self.found)
        clock = statistics.median(found["per_s"] for found in self.found)
        spread = f"{_short(min(rates))}-{_short(max(rates))}" if len(rates) > 1 else f"crops: {self.found[0]['crops']}"
        return [self.name, _short(statistics.median(rates)), spread, _short(clock), round(peak), round(peak - imports)]


def compare(
    readers: dict[str, str], path: Path, size: tuple[int, int], *, rounds: int, seconds: float
) -> list[list[Any]]:
    """Alternate the readers, so that other load affects all alike; check that they read the same pixels."""
    rows = [Row(name, reader, path, size) for name, reader in readers.items()]
    for _ in range(rounds):
        for row in rows:
            row.run(seconds)
            print(f"{row.name}: {row.failed or _short(row.found[-1]['per_cpu_s'])}", flush=True)
    means = [row.found[0]["means"] for row in rows if row.found and row.reader in SAME_PLACES]
    for same in zip(*means):  # noqa: B905 - slow readers have fewer
        if max(same) - min(same) > 1.0:
            raise SystemExit(f"the readers do not read the same pixels: means {same}")
    return [row.cells() for row in rows]


def pyramid_table(path: Path, *, tile_kb: float, rounds: int, seconds: float) -> Table:
    """Compare readers on the pyramid of 30,000 px."""
    return Table(
        f"JPEG pyramid of {COMPARED_PX:,} x {COMPARED_PX:,} px",
        f"Tiles of {TILE_PX} px, JPEG quality 75 with halved colour, {tile_kb:.1f} kB each on average; random places: "
        "nearly every crop touches four tiles. The file is in the page cache.",
        COLUMNS,
        compare(OURS | PEERS, path, (COMPARED_PX, COMPARED_PX), rounds=rounds, seconds=seconds),
    )


def fields_table(folder: Path, *, rounds: int, seconds: float) -> Table:
    """Compare readers on a folder of fields."""
    return Table(
        f"{FIELDS:,} PNG fields of {FIELD.width} x {FIELD.height} px",
        "Every crop is from a different field, which must be decoded completely. Each process keeps up "
        "to 96 MB of decoded "
        "fields: a folder of up to 26 such fields is decoded once.",
        COLUMNS,
        compare(OURS | PICTURE_PEERS, folder, (FIELD.width, FIELD.height), rounds=rounds, seconds=seconds),
    )


def sizes_table(pyramids: dict[int, Path], fields: Path, *, rounds: int, seconds: float) -> Table:
    """Measure cytoseg on pyramids of three sizes, and the memory of a DataLoader worker on each and on the fields."""
    rows = []
    for side, path in pyramids.items():
        readers = {name: OURS[name] for name in list(OURS)[::2]}
        read, train = compare(readers, path, (side, side), rounds=rounds, seconds=seconds)
        rows.append([f"{side:,} px", read[1], read[4], read[5], train[1], *_worker([path], 2 * seconds)])
    rows.append([f"{FIELDS:,} fields", "", "", "", "", *_worker(sorted(fields.iterdir()), 2 * seconds)])
    return Table(
        "cytoseg by size of the slide, and a DataLoader worker",
        "A worker is forked, so the part of its RSS shared with the training process (torch, MONAI) costs nothing. "
        "Own memory is its private pages, in the middle and at the end of its run.",
        SIZE_COLUMNS,
        rows,
    )


def _worker(paths: Sequence[Path], seconds: float) -> list[Any]:
    found = run_child("worker.py", {"paths": [str(path) for path in paths], "seconds": seconds}, timeout_s=CHILD_S)
    if "failed" in found:
        return [found["failed"], ""]
    own = f"{found['worker_own_halfway_mb']:.0f}, {found['worker_own_mb']:.0f}"
    return [round(found["worker_rss_mb"]), own]


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Generate the files in a temporary folder, measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each reader is started")
    parser.add_argument("--seconds", type=float, default=4.0, help="for which each reads in a round")
    options = parser.parse_args()
    machine = describe()
    with tempfile.TemporaryDirectory(prefix="cytoseg-crops-") as name:
        folder = Path(name)
        picture = draw_picture(SIDE_TILES * TILE_PX)
        tiles = encode_tiles(picture)
        tile_kb = statistics.mean(len(tile) for row in tiles for tile in row) / 1000
        pyramids = {side: folder / f"pyramid_{side}.tif" for side in SIDES_PX}
        for side, path in pyramids.items():
            write_big_pyramid(path, side, tiles)
        write_fields(folder / "fields", FIELDS, picture)
        print("files are made", flush=True)
        measured = {"rounds": options.rounds, "seconds": options.seconds}
        tables = [
            pyramid_table(pyramids[COMPARED_PX], tile_kb=tile_kb, **measured),
            fields_table(folder / "fields", **measured),
            sizes_table(pyramids, folder / "fields", **measured),
        ]
    notes = (
        f"Random crops of 256 px at level 0, one process with one thread, each reader in its own process, "
        f"{options.rounds} rounds of {options.seconds:.0f} s in turns: the median of the rounds. Crops/s of one core "
        f"is crops per CPU second of the process. {shared_note(machine)}"
    )
    print(write_results("crops", "Reading crops", tables, machine=machine, notes=notes))


if __name__ == "__main__":
    main()
