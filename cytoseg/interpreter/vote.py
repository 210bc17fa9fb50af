"""How the interpreters vote, and how much they disagree."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def vote(probabilities: Tensor, *, rule: str) -> Tensor:
    """Combine the members' probabilities into one distribution per pixel.

    Args:
        probabilities: (M, N, K, H, W) float32; each sums to 1 over K.
        rule: ``soft`` averages the probabilities. ``geometric`` averages their logarithms, so that one member who is
            sure that it is not a class outweighs many who find it possible. ``entropy`` averages the probabilities,
            members who are sure of a pixel counting for more there. ``hard`` gives the share of members that chose
            each class, ties broken by mean probability; use it to compare with the published method.

    Returns:
        (N, K, H, W) float32, sums to 1 over K.
    """
    return RULES[rule](probabilities)


def _soft(probabilities: Tensor) -> Tensor:
    return probabilities.mean(0)


def _hard(probabilities: Tensor) -> Tensor:
    shares = F.one_hot(probabilities.argmax(2), probabilities.shape[2]).float().mean(0).movedim(-1, 1)
    # Less than half a vote: it decides between equal counts and changes nothing else.
    nudged = shares + probabilities.mean(0) * (0.49 / probabilities.shape[0])
    return nudged / nudged.sum(1, keepdim=True)


def _geometric(probabilities: Tensor) -> Tensor:
    # Members who rule out different classes would leave nothing: a floor far below any rounding keeps a vote.
    return probabilities.clamp_min(1e-12).log().mean(0).softmax(1)


def _entropy_weighted(probabilities: Tensor) -> Tensor:
    certainty = 1.0 - _entropy(probabilities, 2) / math.log(probabilities.shape[2])
    weights = certainty.clamp_min(1e-6)[:, :, None]  # all undecided: then all count alike
    return (probabilities * weights).sum(0) / weights.sum(0)


RULES = {"soft": _soft, "hard": _hard, "geometric": _geometric, "entropy": _entropy_weighted}
"""The rules by name, as a recipe has them."""


def jensen_shannon(probabilities: Tensor) -> Tensor:
    """Measure how much the interpreters disagree at each pixel: H(mean p) - mean H(p).

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
