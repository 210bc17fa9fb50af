"""Memory and time of gathering features and training under a limit, against full-size feature stacks.

Writes results/interpreter_memory.md and .json, after each case.
Run: python tests/benchmarks/interpreter_memory.py [--crops 10 30 50 200] [--memory 4]
"""

import argparse
from typing import Any

from machine import Table, await_memory, describe, run_child, shared_note, write_results

DIM, MEMBERS, STEPS, MEASURED_STEPS = 64, 10, 1000, 100
SIZE_PX, CHANNELS, PUBLISHED_CHANNELS = 256, 10_176, 8_448
DENSE_PX = 128  # a quarter of a crop of this size: larger ones fit few machines
BASE_GB = 1.5
COMPUTED = 10  # crops whose features are computed; further crops reuse them
CHILD_S = 5400.0
COLUMNS = (
    "crops",
    "path",
    "network's precision",
    "pixels in training",
    "features, GB",
    "where",
    "peak RSS, GB",
    "features, s",
    "a crop, s",
    f"{STEPS:,} steps, s",
    "all, s",
)
FORMULA_COLUMNS = ("crops", "stack, GB", "twice, GB", f"with {PUBLISHED_CHANNELS:,} channels, twice, GB", "time, s")


def stack_gb(crops: int, channels: int = CHANNELS) -> float:
    """Return the size of full-size feature stacks in single precision."""
    return crops * channels * SIZE_PX**2 * 4 / 1e9


def run(kind: str, crops: int, precision: str, ceiling_gb: float | None) -> dict[str, Any]:
    """Run one case in a process of its own."""
    size_px = DENSE_PX if kind == "dense" else SIZE_PX
    await_memory(BASE_GB + min(2.5, crops * 2000 * CHANNELS * 2 / 1e9))
    job = {"kind": kind, "crops": crops, "size_px": size_px, "dim": DIM, "precision": precision, "members": MEMBERS}
    job |= {"steps": MEASURED_STEPS, "ceiling_gb": ceiling_gb, "reuse": max(1, crops // COMPUTED)}
    found = run_child("interpreter_jobs.py", job, timeout_s=CHILD_S) | job
    print(found, flush=True)
    if "failed" in found:
        raise SystemExit(found["failed"])
    return found


def training_s(found: dict[str, Any]) -> float:
    """Extrapolate the time of all steps from the measured ones."""
    return float(found["training_cpu_s"]) * STEPS / MEASURED_STEPS


def row(found: dict[str, Any]) -> list[Any]:
    """Return the row of one case."""
    return [
        found["crops"],
        {"ours": "cytoseg", "dense": f"dense, {DENSE_PX} px"}[found["kind"]],
        {"no": "fp32"}.get(found["precision"], found["precision"]),
        f"{found['pixels']:,}",
        f"{found['table_gb']:.2f}",
        found["table"],
        f"{found['peak_mb'] * 2**20 / 1e9:.2f}",
        f"{found['features_cpu_s']:.0f}",
        f"{found['features_cpu_s'] / found['crops']:.2f}",
        f"{training_s(found):.0f}",
        f"{found['features_cpu_s'] + training_s(found):.0f}",
    ]


def formula_row(crops: int, dense: dict[str, Any]) -> list[Any]:
    """Estimate what the dense path would need for a number of crops."""
    seconds = crops * dense["features_cpu_s"] * (SIZE_PX / DENSE_PX) ** 2 + training_s(dense)
    published = 2 * stack_gb(crops, PUBLISHED_CHANNELS)
    return [crops, f"{stack_gb(crops):.0f}", f"{2 * stack_gb(crops):.0f}", f"{published:.0f}", f"{seconds:.0f}"]


def main() -> None:
    """Measure case by case, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crops", type=int, nargs="+", default=[10, 30, 50, 200])
    parser.add_argument("--memory", type=float, default=4.0, help="memory limit in GB")
    options = parser.parse_args()
    machine = describe()
    dense = run("dense", 1, "bf16", None)
    cases = [("no", min(options.crops)), *(("bf16", crops) for crops in options.crops)]
    found = [dense]
    for precision, crops in cases:
        found.append(run("ours", crops, precision, options.memory))
        tables = [
            Table(
                f"Measured, ceiling of {options.memory:g} GB",
                "CPU seconds (one core). Dense uses every pixel, cytoseg up to 2,000 per crop.",
                COLUMNS,
                [row(case) for case in found],
            ),
            Table(
                "Dense, computed by formula",
                "N x D x H x W x 4 bytes, twice while the stacks are concatenated. Time: that of the measured crop of "
                f"{DENSE_PX} px, times {(SIZE_PX // DENSE_PX) ** 2} and times N, plus its training.",
                FORMULA_COLUMNS,
                [formula_row(crops, dense) for crops in options.crops],
            ),
        ]
        text = write_results(
            "interpreter_memory", "Memory of the interpreters", tables, machine=machine, notes=_notes(machine, found)
        )
    print(text)


def _notes(machine: dict[str, Any], found: list[dict[str, Any]]) -> str:
    return (
        f"Each case runs in its own process: synthetic images of 256 x 256 px, all taps at t = 50, 100, "
        "150 of a network "
        f"of dim {DIM} with random weights, {CHANNELS:,} channels; {MEMBERS} interpreters, batches of 64 pixels. The "
        f"features of {COMPUTED} crops are computed, spread over the run, and reused for all. Their "
        "time is multiplied, "
        f"and so is that of {MEASURED_STEPS} training steps including standardisation, so large data sets look slower "
        "than they are. Peak RSS is the kernel's VmHWM of the whole process, "
        "libraries and network included. The dense path keeps (H x W, D) float32 of each crop and "
        "concatenates them, as the "
        "reference code does. Threads: "
        f"{found[0]['threads']}. {shared_note(machine)}"
    )


if __name__ == "__main__":
    main()
