"""Launching a training on several GPUs with torchrun."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

import torch

from cytoseg.errors import RecipeError
from cytoseg.interrupts import END_SIGNALS, INTERRUPTED, PARENT_VARIABLE, signal_handler

_TORCHRUN = f"""
import os, sys
from cytoseg.interrupts import terminate_with_parent
terminate_with_parent(int(sys.argv.pop(1)))
os.environ[{PARENT_VARIABLE!r}] = str(os.getpid())
from torch.distributed.run import main
main()
"""
"""Torchrun that ends when its parent does, even if that is killed, and passes its own process id to its workers."""


def launch(arguments: Sequence[str], *, gpus: int) -> None:
    """Run cytoseg once per GPU under torchrun, and wait.

    Args:
        arguments: Command line arguments, starting with the command.
        gpus: Number of GPUs.

    Raises:
        RecipeError: If the machine has fewer.
        SystemExit: With torchrun's status if it fails, after each process has reported why; with that of Ctrl-C after a
            signal.
    """
    found = torch.cuda.device_count()
    if gpus > found:
        raise RecipeError(f"--gpus {gpus}: this machine has {found}. Ask for fewer.")
    torchrun = [sys.executable, "-c", _TORCHRUN, str(os.getpid()), "--standalone", f"--nproc-per-node={gpus}"]
    process = subprocess.Popen([*torchrun, "-m", "cytoseg", *arguments])
    ended = []

    def end(number: int, _frame: FrameType | None) -> None:
        ended.append(number)
        if number != signal.SIGINT:  # Ctrl-C reaches every process directly
            process.terminate()

    with signal_handler(end, (signal.SIGINT, *END_SIGNALS)):  # only wait until they have saved and ended
        status = process.wait()
    if status:
        raise SystemExit(INTERRUPTED if ended else status)
