"""The most memory that a piece of work takes."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cytoseg.devices import release_memory

_SELF = Path("/proc/self")


@dataclass
class Peak:
    """Filled in when the work ends.

    Attributes:
        mb: Most resident memory of the whole process in MB, or None where the system does not tell.
    """

    mb: float | None = None


@contextlib.contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure the most resident memory of this process within the block; on Linux only.

    What the process holds anyway (libraries, pictures, networks) counts with it; memory of a GPU does not.

    Yields:
        What is filled in at the end of the block.
    """
    peak = Peak()
    release_memory()
    told = _forget()
    yield peak
    if told:
        peak.mb = _high_water_mb()


def _forget() -> bool:
    """Set the kernel's high-water mark back to what is in use now; False where it has none."""
    try:
        (_SELF / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _high_water_mb() -> float | None:
    lines = (line for line in (_SELF / "status").read_text().splitlines() if line.startswith("VmHWM:"))
    kilobytes = next((int(line.split()[1]) for line in lines), None)
    return None if kilobytes is None else round(kilobytes * 1024 / 1e6)
