"""How much memory the training of an ensemble takes, told from its settings before it begins."""

import torch

from cytoseg.features.rows import BLOCK_ROWS, BLOCK_VALUES
from cytoseg.interpreter.holdout import LOOK_PX
from cytoseg.interpreter.reference import BATCH_PX
from cytoseg.interpreter.settings import EnsembleSettings, hidden_sizes

_LIBRARIES = 80_000_000
"""What torch loads with its first optimiser, and buffers of its matrix products."""


def training_bytes(settings: EnsembleSettings, *, pixels: int, inputs: int, classes: int, device: torch.device) -> int:
    """Estimate the most host memory that training holds beside the rows of the pixel table.

    Args:
        settings: Of the training.
        pixels: P.
        inputs: D.
        classes: K.
        device: Where it trains; a GPU leaves first weights and batches to the host.
    """
    wide, narrow = hidden_sizes(classes)
    weights = 4 * settings.members * (inputs * wide + wide * narrow + narrow * classes)
    batch_px = BATCH_PX if settings.mode == "reference" else settings.batch_px
    batch = settings.members * batch_px * inputs
    # Which pixels each member learns from, its shuffle of them, and one being drawn; class and crop of each pixel.
    shuffles = 8 * pixels * (2 * settings.members + 2) + 16 * pixels
    # The best weights of each member so far, or those that it stopped with.
    kept = weights if settings.early_stopping or settings.mode == "reference" else 0
    if device.type != "cpu":
        return 3 * weights + 2 * 2 * batch + shuffles + _LIBRARIES
    kept += 2 * settings.members * min(LOOK_PX, pixels) * inputs if settings.early_stopping else 0
    # A block of rows in double precision, less its mean, and squared.
    standardising = weights + 3 * 8 * min(BLOCK_VALUES, BLOCK_ROWS * inputs)
    # Weights, gradients, two moments and two passing results of Adam; five copies of the batch, as was measured: as
    # read, in single precision, less the mean, divided by the scale, and laid out anew for the gradient.
    steps = 6 * weights + 5 * 4 * batch
    return max(3 * weights, standardising, steps) + kept + shuffles + _LIBRARIES
