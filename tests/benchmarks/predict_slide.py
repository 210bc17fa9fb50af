"""Segmentation of whole slides: rate compared with the predictor alone, and growth of memory with slide size.

    python tests/benchmarks/predict_slide.py [--sides 5000 20000 60000] [--rate-side 1280] [--dim 32] [--device cpu]

Writes results/predict_slide_rate and predict_slide_memory, .md and .json; with an empty --sides, or --turns 0, only
one of them. The slides are JPEG pyramids that repeat 256 distinct synthetic tiles.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from machine import Table, describe, run_child, shared_note, write_results
from made_files import SIDE_TILES, draw_picture, encode_tiles, write_big_pyramid

from cytoseg.slides.pyramid import TILE_PX

MOST_S = 7200
MEMORY_COLUMNS = ("slide, px", "tiles", "s", "megapixels/s", "peak RSS, MB", "of the smallest slide's")
RATE_COLUMNS = (
    "turn",
    "tiles",
    "megapixels/s, whole slide",
    "predictor alone on the same tiles",
    "whole / alone",
    "forward passes alone",
    "waiting for tiles",
    "peak RSS, MB",
)

RATE_NOTES = (
    "Tiles of 256 px that share 64. Whole: reading, computing, stitching and writing the maps, in wall-clock time, "
    "without the pyramids and objects that are computed at the end. Alone: the same predictor on the "
    "same tiles in memory. "
    "Waiting for tiles: the share of the time in which the computing thread had none."
)
MEMORY_NOTES = "Tiles of 256 px that share 64; no glass is skipped. The pyramids at the end are also written."


def memory_rows(sides: list[int], folder: Path, tiles: list[list[bytes]]) -> list[list[Any]]:
    """Segment slides of increasing size with a predictor without computing cost; one process each."""
    rows: list[list[Any]] = []
    first = 0.0
    for side in sides:
        slide = folder / f"{side}.tif"
        write_big_pyramid(slide, side, tiles)
        found = run_child("slide_steps.py", {"what": "memory", "slide": str(slide)}, timeout_s=MOST_S)
        print(side, found, flush=True)
        slide.unlink()
        if "failed" in found:
            rows.append([f"{side:,}²", found["failed"], "", "", "", ""])
            continue
        first = first or found["peak_mb"]
        speed = f"{side**2 / 1e6 / found['s']:.1f}"
        share = f"{found['peak_mb'] / first:.3f}"
        rows.append([f"{side:,}²", f"{found['tiles']:,}", round(found["s"]), speed, round(found["peak_mb"]), share])
    return rows


def rate_rows(job: dict[str, Any], turns: int) -> list[list[Any]]:
    """Segment a slide with a network, then run the predictor alone on the same tiles; one process per turn."""
    rows: list[list[Any]] = []
    for turn in range(1, turns + 1):
        found = run_child("slide_steps.py", {"what": "rate", **job}, timeout_s=MOST_S)
        print(turn, found, flush=True)
        if "failed" in found:
            rows.append([turn, found["failed"], "", "", "", "", "", ""])
            continue
        pixels = job["side"] ** 2 / 1e6
        rows.append(
            [
                turn,
                found["tiles"],
                f"{pixels / found['whole_s']:.3f}",
                f"{pixels / found['alone_s']:.3f}",
                f"{found['alone_s'] / found['whole_s']:.2f}",
                f"{pixels / found['bare_s']:.3f}",
                f"{found['waiting']:.1%}",
                round(found["peak_mb"]),
            ]
        )
    return rows


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="*", default=[5_000, 20_000, 60_000])
    parser.add_argument("--rate-side", type=int, default=1280)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    machine = describe()
    tiles = encode_tiles(draw_picture(SIDE_TILES * TILE_PX))
    with tempfile.TemporaryDirectory(prefix="cytoseg-slides-") as name:
        folder = Path(name)
        if options.turns:
            slide = folder / "rate.tif"
            write_big_pyramid(slide, options.rate_side, tiles)
            job = {"slide": str(slide), "side": options.rate_side, "dim": options.dim, "device": options.device}
            table = _rate_table(rate_rows(job, options.turns), options)
            _write("rate", table, machine=machine, notes=f"{RATE_NOTES} {shared_note(machine)}")
        if options.sides:
            rows = memory_rows(options.sides, folder, tiles)
            table = Table("A predictor without computing cost, three classes", "", MEMORY_COLUMNS, rows)
            _write("memory", table, machine=machine, notes=MEMORY_NOTES)


def _write(what: str, table: Table, *, machine: dict[str, Any], notes: str) -> None:
    name, title = f"predict_slide_{what}", f"Segmenting whole slides: {what}"
    print(write_results(name, title, [table], machine=machine, notes=notes))


def _rate_table(rows: list[list[Any]], options: argparse.Namespace) -> Table:
    shares = [float(row[4]) for row in rows if row[4]]
    note = f"Median of whole / alone: {statistics.median(shares):.2f}. " if shares else ""
    return Table(
        f"Dim {options.dim}, bf16, {options.device}",
        f"{note}A slide of {options.rate_side:,}² px; all taps at t = 50, 100, 150, ten interpreters "
        "with random weights.",
        RATE_COLUMNS,
        rows,
    )


if __name__ == "__main__":
    main()
