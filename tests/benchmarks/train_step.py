"""cytoseg's training step compared with that of denoising-diffusion-pytorch's Trainer.

Writes results/train_step_DEVICE.md and .json.
Run: python tests/benchmarks/train_step.py [--device cpu|cuda] [--turns 5]
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from machine import Table, describe, run_child, shared_note, write_results
from made_files import draw_picture
from numpy.typing import NDArray

WARM_TURNS = 2
PICTURES = 100  # the Trainer's minimum
CHILD_S = 900.0


@dataclass(frozen=True)
class Network:
    """Sizes of network and batch."""

    dim: int
    size_px: int
    batch: int
    backbone: str = "lucidrains"

    def __str__(self) -> str:
        return f"dim {self.dim}, {self.size_px} px, batch {self.batch}"


NETWORKS = {
    "cpu": (Network(32, 64, 8), Network(32, 128, 4), Network(64, 256, 1)),
    "cuda": (Network(64, 256, 16),),
}
STEPS_A_TURN = {"cpu": 1, "cuda": 20}
WORKERS = {"cpu": 1, "cuda": 8}


@dataclass(frozen=True)
class Variant:
    """A kind of step; ``tuned``: with the allocator settings of ``cytoseg train-ddpm`` on a CPU."""

    name: str
    step: str
    precision: str
    tuned: bool


TRAINER, OURS = Variant("Trainer", "trainer", "no", False), Variant("cytoseg", "cytoseg", "no", True)
TRAINER_BF16, OURS_BF16 = Variant("Trainer", "trainer", "bf16", False), Variant("cytoseg", "cytoseg", "bf16", True)
TRAINER_TUNED = Variant("Trainer, our allocator settings", "trainer", "no", True)
OURS_PLAIN = Variant("cytoseg, glibc's allocator settings", "cytoseg", "no", False)
# The steps of one group alternate and are in memory together.
GROUPS = {
    "cpu": ((TRAINER, OURS), (TRAINER_BF16, OURS_BF16), (TRAINER_TUNED, OURS_PLAIN)),
    "cuda": ((TRAINER, OURS), (TRAINER_BF16, OURS_BF16)),
}


@dataclass
class Stepper:
    """A running process that takes steps on request, and its answers after the warm-up."""

    process: subprocess.Popen[str]
    found: list[dict[str, Any]] = field(default_factory=list)

    def turn(self, steps: int, *, keep: bool) -> None:
        """Take a number of steps."""
        assert self.process.stdin is not None, "opened with pipes"
        assert self.process.stdout is not None, "same"
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        line = next((line for line in self.process.stdout if line.startswith("@")), None)
        if line is None:
            raise SystemExit(f"a stepper has ended with status {self.process.wait()}; see its message above")
        if keep:
            self.found.append(json.loads(line[1:]))

    def median(self, key: str) -> float:
        """Return the median of one of the answers."""
        return float(statistics.median(found[key] for found in self.found))


def start(variant: Variant, network: Network, folder: Path, device: str) -> Stepper:
    """Start a process for a kind of step."""
    job = asdict(network) | {"step": variant.step, "precision": variant.precision, "folder": str(folder)}
    job |= {"workers": WORKERS[device], "device": device, "tuned": variant.tuned and device == "cpu"}
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})
    command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "steppers.py"), json.dumps(job)]
    pipe = subprocess.PIPE
    return Stepper(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))


def measure(network: Network, folder: Path, *, device: str, turns: int) -> Iterator[tuple[Variant, Stepper]]:
    """Alternate the kinds of step of each group, so that other load on the machine affects all alike."""
    for group in GROUPS[device]:
        steppers = [start(variant, network, folder, device) for variant in group]
        for turn in range(WARM_TURNS + turns):
            for stepper in steppers if turn % 2 else reversed(steppers):
                stepper.turn(STEPS_A_TURN[device], keep=turn >= WARM_TURNS)
        for variant, stepper in zip(group, steppers, strict=True):
            stepper.process.communicate()
            print(f"{network}, {variant.name}, {variant.precision}: {stepper.median('s'):.3f} s", flush=True)
            yield variant, stepper


def step_table(
    network: Network, found: list[tuple[Variant, Stepper]], *, device: str, gflop: float, ceilings: dict[str, float]
) -> Table:
    """Return the rows of the kinds of step."""
    clock = "s" if device == "cuda" else "cpu_s"
    rows = []
    for variant, stepper in found:
        times = [answer[clock] for answer in stepper.found]
        rate = 3 * gflop * network.batch / stepper.median(clock)
        rows.append(
            [
                variant.name,
                {"no": "fp32"}.get(variant.precision, variant.precision),
                f"{network.batch / stepper.median(clock):.3g}",
                f"{stepper.median(clock):.3f} ({min(times):.3f}-{max(times):.3f})",
                f"{stepper.median('s'):.3f}",
                round(max(answer["peak_mb"] for answer in stepper.found)),
                f"{rate:.0f}",
                f"{rate / ceilings[variant.precision]:.0%}",
            ]
        )
    core = "crops/s" if device == "cuda" else "crops/s of one core"
    columns = ("step", "precision", core, "s a step", "by the clock", "peak memory, MB", "GFLOP/s", "of the ceiling")
    note = f"Forward pass of a crop: {gflop:.1f} GFLOP; training counted as three times that."
    return Table(str(network), note, columns, rows)


def ratio_row(network: Network, found: list[tuple[Variant, Stepper]], *, device: str) -> list[str]:
    """Compare cytoseg with the Trainer turn by turn, and each at its better precision."""
    clock = "s" if device == "cuda" else "cpu_s"
    by = dict(found)
    cells = [str(network)]
    for theirs, ours in ((TRAINER, OURS), (TRAINER_BF16, OURS_BF16)):
        pairs = zip(by[theirs].found, by[ours].found, strict=True)
        ratios = [a[clock] / b[clock] for a, b in pairs]
        cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
    best = [min(by[variant].median(clock) for variant in pair) for pair in ((TRAINER, TRAINER_BF16), (OURS, OURS_BF16))]
    return [*cells, f"{best[0] / best[1]:.2f}"]


def write_pictures(folder: Path, size_px: int, picture: NDArray[np.uint8]) -> None:
    """Write images of exactly the training size, so that neither side resizes them."""
    folder.mkdir()
    places = itertools.product(range(0, picture.shape[0] - size_px, 64), repeat=2)
    for number, (y, x) in enumerate(itertools.islice(places, PICTURES)):
        crop = np.ascontiguousarray(picture[y : y + size_px, x : x + size_px])
        (folder / f"{number:03d}.png").write_bytes(imagecodecs.png_encode(crop))


def main() -> None:
    """Generate images, measure, print and write the tables after each network, because the last ones take longest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--turns", type=int, default=5, help="measured turns of each kind of step")
    options = parser.parse_args()
    machine, device, networks = describe(), options.device, NETWORKS[options.device]
    job = {"device": device, "networks": [(network.dim, network.size_px) for network in networks]}
    arithmetic = run_child("arithmetic.py", job, timeout_s=CHILD_S)
    tables, ratios, picture = [], [], draw_picture(1024)
    with tempfile.TemporaryDirectory(prefix="cytoseg-steps-") as name:
        for network, gflop in zip(networks, arithmetic["forward_gflop"], strict=True):
            folder = Path(name) / str(network.size_px)
            write_pictures(folder, network.size_px, picture)
            found = list(measure(network, folder, device=device, turns=options.turns))
            tables.append(step_table(network, found, device=device, gflop=gflop, ceilings=arithmetic))
            ratios.append(ratio_row(network, found, device=device))
            notes = _notes(options, arithmetic, found[0][1].found[0]["threads"], shared_note(machine))
            shown = [_ratio_table(ratios), *tables]
            text = write_results(
                f"train_step_{device}", f"Training steps, {device}", shown, machine=machine, notes=notes
            )
    print(text)


def _ratio_table(rows: list[list[str]]) -> Table:
    columns = ("network", "both fp32", "both bf16", "each at its better precision")
    note = "Trainer's time over cytoseg's, turn by turn: the median and the range; above 1 cytoseg is faster."
    return Table("Speed-up", note, columns, rows)


def _notes(options: argparse.Namespace, arithmetic: dict[str, Any], threads: int, shared: str) -> str:
    device = options.device
    unit = "" if device == "cuda" else " of one core"
    return (
        "Same network, batch, precision and images, which each side reads in its own way: the Trainer with a process "
        f"for every core, cytoseg with {WORKERS[device]}. The Trainer's minimum effective batch of 16 is disabled; it "
        "updates its averaged weights at every tenth step, cytoseg at every step. Both take turns in separate "
        f"processes, {WARM_TURNS} warm-up turns and {options.turns} measured, steps per turn: {STEPS_A_TURN[device]}; "
        f"threads: {threads}, OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY', 'unset')}. Ceiling of the matrix "
        f"product: {arithmetic['no']:.0f} GFLOP/s in fp32, {arithmetic['bf16']:.0f} in bf16{unit}. {shared}"
    )


if __name__ == "__main__":
    main()
