"""Memory use of this process and free memory of the machine; Linux only."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cytoseg.allocator import release_memory

_SELF = Path("/proc/self")
_MACHINE = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")


@dataclass
class Peak:
    """Peak memory, filled in when the block ends.

    Attributes:
        mb: Peak resident memory of the process in MB, or None if the system does not report it.
    """

    mb: float | None = None


@contextlib.contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure the peak resident memory of this process within the block; Linux only.

    Includes what the process already holds (libraries, images, networks); excludes GPU memory.

    Yields:
        The result, filled in at the end of the block.
    """
    peak = Peak()
    release_memory()
    told = _forget()
    yield peak
    found = highest_bytes()
    if told and found is not None:
        peak.mb = round(found / 1e6)


def resident_bytes() -> int | None:
    """Return the resident memory of this process in bytes; None if not reported."""
    return _kilobytes(_SELF / "status", "VmRSS:")


def highest_bytes() -> int | None:
    """Return the peak resident memory in bytes since ``peak_memory`` began; None if not reported."""
    return _kilobytes(_SELF / "status", "VmHWM:")


def available_bytes() -> int | None:
    """Return the bytes of memory available on the machine and in its container; None if not reported."""
    free = _kilobytes(_MACHINE, "MemAvailable:")
    limit = _number_in(_CONTAINER / "memory.max")
    if limit is None:  # no container, or no limit on it
        return free
    held = _number_in(_CONTAINER / "memory.current")
    files = _number_behind(_CONTAINER / "memory.stat", "inactive_file ") or 0  # page cache that is dropped on demand
    left = max(0, limit - (resident_bytes() or 0 if held is None else held - files))
    return left if free is None else min(free, left)


def _forget() -> bool:
    """Reset the kernel's high-water mark to the current use; False if it has none."""
    try:
        (_SELF / "clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return False
    return True


def _kilobytes(path: Path, field: str) -> int | None:
    """Read one field of a kernel file in kibibytes; return bytes."""
    found = _number_behind(path, field)
    return None if found is None else 1024 * found


def _number_in(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _number_behind(path: Path, field: str) -> int | None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), None)
