"""Settings of the CPU memory allocator of glibc."""

import contextlib
import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def tune_cpu_allocator() -> bool:
    """Keep glibc from returning large blocks to the system after every layer.

    A 256 px network allocates and frees hundreds of megabytes a step; with glibc's defaults each of them is mapped and
    page-faulted again, which costs more than the arithmetic. This holds for what the main thread allocates; other
    threads return freed memory regardless of the settings, so run the network in the main thread.

    Returns:
        Whether the settings were applied; False with another C library.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def release_memory() -> None:
    """Return freed memory to the system, which glibc no longer does by itself after ``tune_cpu_allocator``."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
