"""Time and memory of segmenting a tile: forward passes alone, cytoseg, and dense features.

Writes results/predict_tile_SIZEpx.*.

Run: python tests/benchmarks/predict_tile.py [--turns 3] [--sizes 256 512]
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import Table, await_memory, describe, shared_note, write_results
from train_step import Stepper

WAYS = {"bare": "three forward passes alone", "ours": "cytoseg", "dense": "dense"}
PRECISIONS = {"no": "fp32", "bf16": "bf16"}
DIMS, CHANNELS_PER_DIM, DENSE_MOST_GB = (32, 64), 159, 4.0
COLUMNS = ("network", "precision", "way", "s a tile", "by the clock", "peak RSS, MB")
Found = list[dict[str, Any]]
WARM_TILES = {"bare": 2, "ours": 2, "dense": 1}
RATIO_COLUMNS = ("network", "precision", "cytoseg / bare", "dense / cytoseg")


def start(way: str, dim: int, size_px: int, precision: str) -> Stepper:
    """Start a process for one method."""
    job = {"way": way, "dim": dim, "size_px": size_px, "precision": precision}
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "tile_steps.py"), json.dumps(job)]
    pipe = subprocess.PIPE
    return Stepper(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))


def stack_gb(dim: int, size_px: int) -> float:
    """Return the size of the dense path's feature stack."""
    return CHANNELS_PER_DIM * dim * size_px**2 * 4 / 1e9


def measure(dim: int, size_px: int, precision: str, *, turns: int) -> dict[str, Found]:
    """Alternate the methods, so that other load on the machine affects all alike.

    Each turn is a new process, so that only one is in memory at a time; its first tiles are a warm-up.
    """
    ways = [way for way in WAYS if way != "dense" or stack_gb(dim, size_px) < DENSE_MOST_GB]
    found: dict[str, Found] = {way: [] for way in ways}
    for turn in range(turns):
        for way in ways if turn % 2 else reversed(ways):
            # Feature maps of the network and its taps take about half as much as the stack.
            await_memory(0.7 + stack_gb(dim, size_px) * (1.7 if way == "dense" else 0.6))
            stepper = start(way, dim, size_px, precision)
            for _ in range(WARM_TILES[way]):
                stepper.turn(1, keep=False)
            stepper.turn(1, keep=True)
            stepper.process.communicate()
            found[way] += stepper.found
            print(f"dim {dim}, {size_px} px, {precision}, {way}: {stepper.found[-1]}", flush=True)
    return found


def ratio(found: dict[str, Found], over: str, under: str) -> str:
    """Compare two methods turn by turn: median and range."""
    if over not in found or under not in found:
        return "not run"
    pairs = zip(found[over], found[under], strict=True)
    ratios = [a["cpu_s"] / b["cpu_s"] for a, b in pairs]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def rows_of(about: list[Any], found: dict[str, Found], *, dense_gb: float) -> list[list[Any]]:
    """Return a row for each method."""
    rows = []
    for way, name in WAYS.items():
        if way not in found:
            rows.append([*about, name, f"not run: a stack of {dense_gb:.1f} GB", "", ""])
            continue
        times = [answer["cpu_s"] for answer in found[way]]
        clock = statistics.median(answer["s"] for answer in found[way])
        spread = f"{statistics.median(times):.2f} ({min(times):.2f}-{max(times):.2f})"
        rows.append([*about, name, spread, f"{clock:.2f}", round(max(answer["peak_mb"] for answer in found[way]))])
    return rows


def main() -> None:
    """Measure, print and write the tables, again after each network and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="measured turns of each method")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="sides of the tiles in pixels")
    options = parser.parse_args()
    machine = describe()
    for size_px in options.sizes:
        ratios, rows = [], []
        for dim, precision in itertools.product(DIMS, PRECISIONS):
            about = [f"dim {dim}", PRECISIONS[precision]]
            found = measure(dim, size_px, precision, turns=options.turns)
            ratios.append([*about, ratio(found, "ours", "bare"), ratio(found, "dense", "ours")])
            rows += rows_of(about, found, dense_gb=stack_gb(dim, size_px))
            tables = [
                Table("Ratios", "Turn by turn: the median and the range.", RATIO_COLUMNS, ratios),
                Table("Times and memory", "CPU seconds (one core).", COLUMNS, rows),
            ]
            notes = _notes(options.turns, found["ours"][0]["threads"], shared_note(machine))
            title = f"Segmenting a tile of {size_px} px"
            text = write_results(f"predict_tile_{size_px}px", title, tables, machine=machine, notes=notes)
        print(text)


def _notes(turns: int, threads: int, shared: str) -> str:
    return (
        "All taps at t = 50, 100, 150, ten interpreters, random weights. Bare: three forward passes of the whole "
        "network. cytoseg: the same work as `cytoseg predict`, from bytes to votes. Dense: all taps upsampled to full "
        "size and concatenated in place, all interpreters applied to every pixel in blocks of 4,096; skipped if the "
        f"stack is larger than {DENSE_MOST_GB:.0f} GB. The three take turns, {turns} each, every turn in its own "
        f"process: two warm-up tiles (dense: one), one measured. Threads: {threads}, "
        f"OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY', 'unset')}. {shared}"
    )


if __name__ == "__main__":
    main()
