"""Memory of this process and of the machine; the kernel of Linux tells, other systems do not."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cytoseg.devices import release_memory

_SELF = Path("/proc/self")
_MACHINE = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")


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
    found = highest_bytes()
    if told and found is not None:
        peak.mb = round(found / 1e6)


def resident_bytes() -> int | None:
    """Tell how much memory this process holds now; None where the system does not tell."""
    return _kilobytes(_SELF / "status", "VmRSS:")


def highest_bytes() -> int | None:
    """Tell the most memory that this process has held, since ``peak_memory`` began; None as above."""
    return _kilobytes(_SELF / "status", "VmHWM:")


def available_bytes() -> int | None:
    """Tell how much memory is free for this process, on the machine and in its container; None as above."""
    free = _kilobytes(_MACHINE, "MemAvailable:")
    limit = _number_in(_CONTAINER / "memory.max")
    if limit is None:  # no container, or one without a limit
        return free
    held = _number_in(_CONTAINER / "memory.current")
    files = _number_behind(_CONTAINER / "memory.stat", "inactive_file ") or 0  # copies that go when in the way
    left = max(0, limit - (resident_bytes() or 0 if held is None else held - files))
    return left if free is None else min(free, left)


def _forget() -> bool:
    """Set the kernel's high-water mark back to what is in use now; False where it has none."""
    try:
        (_SELF / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _kilobytes(path: Path, field: str) -> int | None:
    """Read one field of a file of the kernel, which counts in units of 1024 bytes; returns bytes."""
    found = _number_behind(path, field)
    return None if found is None else 1024 * found


def _number_in(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _number_behind(path: Path, field: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), None)
