"""Memory estimate of ensemble training."""

import torch

from cytoseg.features.pixel_rows import BLOCK_ROWS, BLOCK_VALUES
from cytoseg.interpreter.holdout import CHECK_PX
from cytoseg.interpreter.settings import EnsembleSettings, hidden_sizes
from cytoseg.interpreter.train_reference import BATCH_PX

_LIBRARIES = 80_000_000
"""Modules that torch loads with its first optimiser, and matrix product buffers."""


def training_bytes(settings: EnsembleSettings, *, pixels: int, inputs: int, classes: int, device: torch.device) -> int:
    """Estimate the peak host memory of training, excluding the pixel table.

    Args:
        settings: Training settings.
        pixels: P.
        inputs: D.
        classes: K.
        device: Training device; with a GPU the host holds only initial weights and batches.
    """
    wide, narrow = hidden_sizes(classes)
    weights = 4 * settings.members * (inputs * wide + wide * narrow + narrow * classes)
    batch_px = BATCH_PX if settings.mode == "reference" else settings.batch_px
    batch = settings.members * batch_px * inputs
    # Training pixels of each member, its shuffle, and one being drawn; class and crop of each pixel.
    shuffles = 8 * pixels * (2 * settings.members + 2) + 16 * pixels
    # Best weights of each member so far, or its final ones.
    kept = weights if settings.early_stopping or settings.mode == "reference" else 0
    if device.type != "cpu":
        return 3 * weights + 2 * 2 * batch + shuffles + _LIBRARIES
    kept += 2 * settings.members * min(CHECK_PX, pixels) * inputs if settings.early_stopping else 0
    # A block of rows in double precision, centred, and squared.
    standardising = weights + 3 * 8 * min(BLOCK_VALUES, BLOCK_ROWS * inputs)
    # Weights, gradients, two moments and two temporaries of Adam; five copies of the batch, as measured: as
    # read, in single precision, centred, scaled, and transposed for the gradient.
    steps = 6 * weights + 5 * 4 * batch
    return max(3 * weights, standardising, steps) + kept + shuffles + _LIBRARIES
