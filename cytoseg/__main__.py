"""The command-line program, runnable as ``python -m cytoseg``."""

import importlib
import signal

from cytoseg.interrupts import exit_at_once_on_signal


def main() -> None:
    """Load the command line and run the command; a signal during loading ends the program silently."""
    with exit_at_once_on_signal():
        command_line = importlib.import_module("cytoseg.cli")
    try:
        command_line.main()
    finally:
        # From here on the interpreter is ending, and would answer Ctrl-C with a traceback.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
