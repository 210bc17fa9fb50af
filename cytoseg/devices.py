"""Compute device, random seeds and the CPU memory allocator."""

import contextlib
import ctypes
import hashlib
import sys

import torch

from cytoseg.errors import RecipeError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def pick_device(name: str = "auto") -> torch.device:
    """Choose the device: ``auto`` takes a GPU where there is one.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        RecipeError: If the requested device is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise RecipeError(f"device {name!r} is not available on this machine. Use training.device=cpu or auto.")
    device = torch.device(name)
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise RecipeError(f"device {name!r}: this machine has {torch.cuda.device_count()} GPUs, counted from cuda:0.")
    return device


def seed_for(seed: int, index: int, *, what: str) -> int:
    """Derive an independent 32-bit seed for item ``index`` of one purpose, the same on every machine.

    Args:
        seed: The recipe's seed.
        index: Which crop, sample or member.
        what: The purpose, such as ``crop``, so that two purposes never share random numbers.
    """
    digest = hashlib.blake2b(f"{what}/{seed}/{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def generator_for(seed: int, index: int, *, what: str) -> torch.Generator:
    """Make a CPU generator for item ``index`` of one purpose (see ``seed_for``)."""
    return torch.Generator().manual_seed(seed_for(seed, index, what=what))


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
