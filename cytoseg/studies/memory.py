"""The most memory that a piece of work takes."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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

    The process's own base (torch, the pictures) counts with it.
    """
    peak = Peak()
    told = _forget()
    yield peak
    if told:
        peak.mb = round(_high_water_kb() * 1024 / 1e6)


def _forget() -> bool:
    """Set the kernel's high-water mark back to what is in use now; False where it has none."""
    try:
        (_SELF / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _high_water_kb() -> int:
    lines = (_SELF / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
