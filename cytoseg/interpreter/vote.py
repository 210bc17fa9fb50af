"""Voting rules of the interpreters, and their disagreement."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def vote(probabilities: Tensor, *, rule: str) -> Tensor:
    """Combine the members' probabilities into one distribution per pixel.

    Args:
        probabilities: (M, N, K, H, W) float32; each sums to 1 over K.
        rule: ``soft`` averages the probabilities. ``geometric`` averages their logarithms, so that one member that
            rules out a class outweighs many that find it possible. ``entropy`` averages the probabilities weighted by
            each member's confidence at the pixel. ``hard`` gives the fraction of members that chose each class, ties
            broken by mean probability; use it to compare with the published method.

    Returns:
        (N, K, H, W) float32, sums to 1 over K.
    """
    return RULES[rule](probabilities)


def _soft(probabilities: Tensor) -> Tensor:
    return probabilities.mean(0)


def _hard(probabilities: Tensor) -> Tensor:
    shares = F.one_hot(probabilities.argmax(2), probabilities.shape[2]).float().mean(0).movedim(-1, 1)
    # Less than half a vote, so it only breaks ties.
    nudged = shares + probabilities.mean(0) * (0.49 / probabilities.shape[0])
    return nudged / nudged.sum(1, keepdim=True)


def _geometric(probabilities: Tensor) -> Tensor:
    # If members rule out different classes, no class would be left: a tiny floor prevents that.
    return probabilities.clamp_min(1e-12).log().mean(0).softmax(1)


def _entropy_weighted(probabilities: Tensor) -> Tensor:
    certainty = 1.0 - _entropy(probabilities, 2) / math.log(probabilities.shape[2])
    weights = certainty.clamp_min(1e-6)[:, :, None]  # all undecided: equal weights
    return (probabilities * weights).sum(0) / weights.sum(0)


RULES = {"soft": _soft, "hard": _hard, "geometric": _geometric, "entropy": _entropy_weighted}
"""Voting rules by their name in a recipe."""


def jensen_shannon(probabilities: Tensor) -> Tensor:
    """Measure the disagreement of the interpreters at each pixel: H(mean p) - mean H(p).

    Args:
        probabilities: (M, N, K, H, W) float32; each sums to 1 over K.

    Returns:
        (N, H, W) float32 in nats, 0 where all agree, at most log(min(K, M)).

    Raises:
        ValueError: If there are fewer than two interpreters.

    Source: Zhang et al., DatasetGAN, CVPR 2021.
    """
    if len(probabilities) < 2:
        raise ValueError(f"disagreement needs two interpreters, found {len(probabilities)}")
    return (_entropy(probabilities.mean(0), 1) - _entropy(probabilities, 2).mean(0)).clamp_min(0.0)


def _entropy(probabilities: Tensor, axis: int) -> Tensor:
    entropy: Tensor = -torch.special.xlogy(probabilities, probabilities).sum(axis)
    return entropy
