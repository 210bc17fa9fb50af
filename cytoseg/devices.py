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


def computes_bf16(device: torch.device) -> bool:
    """Tell whether the device computes bfloat16 itself.

    Most desktop processors have no bfloat16 instructions (AVX-512 BF16 or AMX); PyTorch then emulates them, and a
    network takes about ten times as long as in fp32.
    """
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def working_precision(precision: str, device: torch.device) -> str:
    """Choose the precision to compute in: ``bf16`` only where it is asked for and the device computes it itself.

    Args:
        precision: ``no`` (fp32) or ``bf16``, as in the recipe.
        device: Where the network runs.
    """
    return "bf16" if precision == "bf16" and computes_bf16(device) else "no"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Autocast to the working precision of a device (see ``working_precision``)."""
    return torch.autocast(device.type, torch.bfloat16, enabled=working_precision(precision, device) == "bf16")


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
