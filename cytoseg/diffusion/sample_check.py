"""Telling a sample that is a picture from one that is not."""

import torch
from torch import Tensor

LARGEST_SATURATED_SHARE = 0.1
"""Share of saturated pixels above which a sample is no picture.

Measured: at most 0.03 of any square of 64 px in real fields (LBC and CRIC), at most 0.03 in DDIM's samples of networks
that had trained for 250 steps and more, about 0.2 after 100 steps, 0.8 with random weights (pred_noise). It finds what
has blown up, not what merely looks unlike cells: DDPM draws plain noise from random weights, with about 0.07.
"""


def saturated_share(sample: Tensor) -> float:
    """Measure the share of pixels whose colour no light that passed through glass and stain has.

    A pixel counts if its darkest channel is at -1 or below while its brightest is at +1 or above (all light of one
    colour, none of another), or if all its channels are at -1 or below (no light at all). Clipped glass is +1 in all
    channels and does not count; neither does a stain that takes all light of one colour and part of another.

    Args:
        sample: (3, H, W), the range of pictures is [-1, 1].
    """
    darkest, brightest = sample.amin(0), sample.amax(0)
    saturated = (darkest <= -1.0) & ((brightest >= 1.0) | (brightest <= -1.0))
    return float(saturated.double().mean())


def fault_of(sample: Tensor) -> str | None:
    """Say why a sample is no picture.

    Args:
        sample: (3, H, W) as a sampler gives it.

    Returns:
        ``not finite`` or ``saturated``, or None for a sample that may be saved.
    """
    if not bool(torch.isfinite(sample).all()):
        return "not finite"
    return "saturated" if saturated_share(sample) > LARGEST_SATURATED_SHARE else None
