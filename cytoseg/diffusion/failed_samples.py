"""Detecting failed samples: non-finite or saturated."""

import torch
from torch import Tensor

LARGEST_SATURATED_SHARE = 0.1
"""Fraction of saturated pixels above which a sample has failed.

Measured: at most 0.03 of any square of 64 px in real fields (LBC and CRIC), at most 0.03 in DDIM samples of networks
trained for at least 250 steps, about 0.2 after 100 steps, 0.8 with random weights (pred_noise). It detects
divergence, not samples that merely do not look like cells: DDPM with random weights gives noise with about 0.07.
"""


def saturated_share(sample: Tensor) -> float:
    """Measure the fraction of pixels with a colour impossible in transmitted light.

    A pixel counts if its darkest channel is at -1 or below while its brightest is at +1 or above (all light of one
    colour, none of another), or if all its channels are at -1 or below (no light at all). Clipped glass is +1 in all
    channels and does not count; neither does a stain that takes all light of one colour and part of another. A grey
    sample has no colours, and may be black as images of fluorescence are: none of its pixels counts.

    Args:
        sample: (C, H, W), the range of images is [-1, 1].
    """
    if len(sample) == 1:
        return 0.0
    darkest, brightest = sample.amin(0), sample.amax(0)
    saturated = (darkest <= -1.0) & ((brightest >= 1.0) | (brightest <= -1.0))
    return float(saturated.double().mean())


def fault_of(sample: Tensor) -> str | None:
    """Return why a sample has failed.

    Args:
        sample: (C, H, W) from a sampler.

    Returns:
        ``not finite`` or ``saturated``, or None for a valid sample.
    """
    if not bool(torch.isfinite(sample).all()):
        return "not finite"
    return "saturated" if saturated_share(sample) > LARGEST_SATURATED_SHARE else None
