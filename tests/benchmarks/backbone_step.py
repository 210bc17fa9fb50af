"""Training step of the backbone ``pretrained`` compared with ``lucidrains``: operations, weights, seconds.

Writes results/train_step_backbones.md and .json.
Run: python tests/benchmarks/backbone_step.py [--turns 3]
"""

import argparse
import tempfile
from pathlib import Path

import torch
from machine import Table, describe, shared_note, write_results
from made_files import draw_picture
from steppers import DIM_MULTS
from torch.utils.flop_counter import FlopCounterMode
from train_step import OURS, OURS_BF16, WARM_TURNS, Network, Stepper, start, write_pictures

from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.unet import build_unet

NETWORKS = tuple(
    Network(dim, size_px, batch, backbone)
    for size_px, batch in ((64, 8), (256, 1))
    for backbone, dim in (("lucidrains", 32), ("pretrained", 16))
)
"""The two backbones alternate at each size."""
COLUMNS = (
    "backbone",
    "crop, px",
    "batch",
    "weights, million",
    "GFLOP a crop",
    "step in fp32, s",
    "in bf16, s",
    "memory, MB",
)


def counted(network: Network) -> tuple[float, float]:
    """Count a network's weights in millions and the GFLOP of one crop's forward pass."""
    unet = build_unet(
        Architecture(dim=network.dim, dim_mults=DIM_MULTS[network.backbone], backbone=network.backbone)
    ).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        unet(torch.zeros(1, 3, network.size_px, network.size_px), torch.zeros(1, dtype=torch.long))
    return sum(p.numel() for p in unet.parameters()) / 1e6, float(counter.get_total_flops()) / 1e9


def row(network: Network, steppers: list[Stepper]) -> list[str]:
    """Return the row of one network: CPU seconds in both precisions, median and range."""
    weights, gflop = counted(network)
    times = [[answer["cpu_s"] for answer in stepper.found] for stepper in steppers]
    seconds = [f"{s.median('cpu_s'):.2f} ({min(t):.2f}-{max(t):.2f})" for s, t in zip(steppers, times, strict=True)]
    peak = max(answer["peak_mb"] for stepper in steppers for answer in stepper.found)
    name = f"{network.backbone}, dim {network.dim}"
    return [name, str(network.size_px), str(network.batch), f"{weights:.1f}", f"{gflop:.1f}", *seconds, f"{peak:.0f}"]


def measure(networks: list[Network], folder: Path, *, turns: int) -> list[list[str]]:
    """Alternate the networks of one size in both precisions, so that other load on the machine affects all alike."""
    steppers = [[start(variant, network, folder, "cpu") for variant in (OURS, OURS_BF16)] for network in networks]
    for turn in range(WARM_TURNS + turns):
        for stepper in (stepper for pair in steppers for stepper in pair):
            stepper.turn(1, keep=turn >= WARM_TURNS)
    for stepper in (stepper for pair in steppers for stepper in pair):
        stepper.process.communicate()
    return [row(network, pair) for network, pair in zip(networks, steppers, strict=True)]


def main() -> None:
    """Generate images, measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="measured steps of each kind")
    turns, machine, rows = parser.parse_args().turns, describe(), []
    with tempfile.TemporaryDirectory(prefix="cytoseg-steps-") as name:
        for size_px in dict.fromkeys(network.size_px for network in NETWORKS):
            folder = Path(name) / str(size_px)
            write_pictures(folder, size_px, draw_picture(1024))
            rows += measure([n for n in NETWORKS if n.size_px == size_px], folder, turns=turns)
    note = (
        "A denoising step of train-ddpm, in CPU seconds (one core), median and range. The pass on labelled sources, "
        "which trains masks, is not included."
    )
    print(
        write_results(
            "train_step_backbones",
            "Training steps of the backbones",
            [Table("Step by step", note, COLUMNS, rows)],
            machine=machine,
            notes=f"{WARM_TURNS} warm-up steps and {turns} measured steps, in turns. {shared_note(machine)}",
        )
    )


if __name__ == "__main__":
    main()
