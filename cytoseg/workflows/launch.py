"""Starting one training on several GPUs of this machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

import torch

from cytoseg.errors import RecipeError
from cytoseg.interrupts import ENDING, INTERRUPTED, PARENT, handled

_TORCHRUN = f"""
import os, sys
from cytoseg.interrupts import asked_to_end_with
asked_to_end_with(int(sys.argv.pop(1)))
os.environ[{PARENT!r}] = str(os.getpid())
from torch.distributed.run import main
main()
"""
"""Torchrun that ends with the process that started it, also if that is killed, and tells its own its number."""


def launch(arguments: Sequence[str], *, gpus: int) -> None:
    """Run cytoseg once per GPU under torchrun, and wait.

    Args:
        arguments: Of the command line, the command first.
        gpus: How many.

    Raises:
        RecipeError: If there are fewer.
        SystemExit: With torchrun's status, if it fails; each process has said why. With that of Ctrl-C, if a signal
            ended it.
    """
    found = torch.cuda.device_count()
    if gpus > found:
        raise RecipeError(f"--gpus {gpus}: this machine has {found}. Ask for fewer.")
    torchrun = [sys.executable, "-c", _TORCHRUN, str(os.getpid()), "--standalone", f"--nproc-per-node={gpus}"]
    process = subprocess.Popen([*torchrun, "-m", "cytoseg", *arguments])
    ended = []

    def end(number: int, _frame: FrameType | None) -> None:
        ended.append(number)
        if number != signal.SIGINT:  # Ctrl-C reaches every process by itself
            process.terminate()

    with handled(end, (signal.SIGINT, *ENDING)):  # this one only waits until they have saved and ended
        status = process.wait()
    if status:
        raise SystemExit(INTERRUPTED if ended else status)
