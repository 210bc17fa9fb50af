"""Compute devices and the precision that they compute in."""

import re

import torch

from cytoseg.errors import RecipeError


def pick_device(name: str = "auto") -> torch.device:
    """Choose the device: ``auto`` takes a GPU where there is one.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        RecipeError: If the name is unknown, or the requested device is not available.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        raise RecipeError(f"device {name!r} is unknown. Use auto, cpu, cuda or cuda:N.")
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

    Most desktop processors have no bfloat16 instructions (AVX-512 BF16 or AMX), nor have GPUs before Ampere; PyTorch
    then emulates them, and on a processor a network takes about ten times as long as in fp32.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


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
