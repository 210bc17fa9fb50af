"""The command-line program, runnable as ``python -m cytoseg``."""

from cytoseg.cli import main

main()
