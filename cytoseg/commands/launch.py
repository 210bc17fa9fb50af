"""Starting one training on several GPUs of this machine."""

import signal
import subprocess
import sys
from collections.abc import Sequence

import torch

from cytoseg.errors import RecipeError


def launch(arguments: Sequence[str], *, gpus: int) -> None:
    """Run cytoseg once per GPU under torchrun, and wait.

    Args:
        arguments: Of the command line, the command first.
        gpus: How many.

    Raises:
        RecipeError: If there are fewer.
        SystemExit: With torchrun's status, if it fails; each process has said why.
    """
    found = torch.cuda.device_count()
    if gpus > found:
        raise RecipeError(f"--gpus {gpus}: this machine has {found}. Ask for fewer.")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}"]
    process = subprocess.Popen([*torchrun, "-m", "cytoseg", *arguments])
    # Ctrl-C reaches every process by itself; this one only waits until they have saved and ended.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    if status := process.wait():
        raise SystemExit(status)
