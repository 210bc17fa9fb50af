"""Matrix product speed and operations of a forward pass; started by train_step.py."""

import json
import statistics
import sys
import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.unet import build_unet

REPEATS = 7


def ceiling(device: str, dtype: torch.dtype) -> float:
    """Measure the matrix product in GFLOP/s: wall-clock time on a GPU, CPU time (one core) on a CPU."""
    side = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    clock = time.perf_counter if device == "cuda" else time.process_time
    seconds = []
    for _ in range(REPEATS + 1):
        begin = clock()
        torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(clock() - begin)
    return 2 * side**3 / statistics.median(seconds[1:]) / 1e9


def forward_gflop(dim: int, size_px: int) -> float:
    """Count the operations of one crop's forward pass."""
    unet = build_unet(
        Architecture(dim=dim, dim_mults=(1, 2, 4, 8), timesteps=1000, schedule="linear", objective="pred_noise")
    )
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        unet(torch.zeros(1, 3, size_px, size_px), torch.zeros(1, dtype=torch.long))
    return float(counter.get_total_flops()) / 1e9


def measure(device: str, networks: list[tuple[int, int]]) -> dict[str, Any]:
    """Measure both."""
    return {
        "no": ceiling(device, torch.float32),
        "bf16": ceiling(device, torch.bfloat16),
        "forward_gflop": [forward_gflop(dim, size_px) for dim, size_px in networks],
    }


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
