"""Import of denoising-diffusion-pytorch, despite a mismatched torchvision."""

import importlib
import sys

import torch

_kept_alive: list[torch.library.Library] = []


def _define_missing_operators() -> None:
    """Declare the two operators whose absence breaks torchvision's import with a different build of torch.

    Its compiled library cannot be loaded then, so its Python code registers shape rules for undefined operators.
    Known upstream as pytorch/vision issues 9077 and 9085. They are never called: only their names are needed.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call] # torch leaves it untyped
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call] # same
    _kept_alive.append(library)  # the definitions vanish with the object


def mended_torchvision() -> bool:
    """Return whether torchvision had to be patched when this module was imported."""
    return bool(_kept_alive)


def import_torchvision() -> None:
    """Import torchvision, patching the mismatch above if there is one.

    Raises:
        RuntimeError: If torchvision fails for any other reason.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
            del sys.modules[name]
        _define_missing_operators()
        importlib.import_module("torchvision")


import_torchvision()

from denoising_diffusion_pytorch.denoising_diffusion_pytorch import (  # noqa: E402 - needs the patch above
    Attention,
    GaussianDiffusion,
    LinearAttention,
    RMSNorm,
    Unet,
    cosine_beta_schedule,
    linear_beta_schedule,
    sigmoid_beta_schedule,
)

__all__ = [
    "Attention",
    "GaussianDiffusion",
    "LinearAttention",
    "RMSNorm",
    "Unet",
    "cosine_beta_schedule",
    "linear_beta_schedule",
    "sigmoid_beta_schedule",
]
