"""A command in a fork of this process, which has loaded torch: a process of its own without the seconds of a start."""

import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from typing import IO, NoReturn

from cytoseg.cli import main
from cytoseg.distributed import process_rank
from cytoseg.terminal import console
from tests.conftest import forget_accelerate


class Forked:
    """Runs ``cytoseg`` with these arguments in the working folder; used like ``subprocess.Popen``.

    Args:
        arguments: What would be typed after ``cytoseg``.
        environment: Environment variables that it has beside ours.
    """

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.returncode: int | None = None
        self._outputs = tuple(tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 - closed by close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of forks beside threads
            self.pid = os.fork()
        if self.pid == 0:
            _run(arguments, environment, self._outputs)

    def poll(self) -> int | None:
        """Give the exit status, negative after a signal, or None as long as it runs."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """Wait for its end; gives what it wrote to stdout and stderr."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < end, self._said()
            time.sleep(0.005)
        return self._said()

    def _said(self) -> tuple[str, str]:
        for output in self._outputs:
            output.seek(0)
        out, errors = (output.read().decode() for output in self._outputs)
        return out, errors

    def close(self) -> None:
        """Kill it if it still runs."""
        self.send_signal(signal.SIGKILL)
        self.communicate()
        for output in self._outputs:
            output.close()


def _run(arguments: Sequence[str], environment: dict[str, str], outputs: Sequence[IO[bytes]]) -> NoReturn:
    """Be the process that ``cytoseg`` with these arguments would be, to its end."""
    status = 1
    try:
        for descriptor, output in enumerate(outputs, start=1):
            os.dup2(output.fileno(), descriptor)
        sys.stdout, sys.stderr = (open(descriptor, "w", closefd=False) for descriptor in (1, 2))  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(environment)
        console.quiet = process_rank() > 0  # as it is found at the import
        sys.argv = ["cytoseg", *arguments]
        forget_accelerate()
        main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
