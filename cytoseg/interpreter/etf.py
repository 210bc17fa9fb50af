"""A regulariser that draws the last hidden activations of each class towards one corner of a regular simplex."""

import math

import torch
from torch import Tensor

from cytoseg.devices import generator_for


def simplex(width: int, classes: int, *, seed: int, member: int) -> Tensor:
    """Make the corners of a regular simplex (an equiangular tight frame) at a random turn.

    M = sqrt(K / (K - 1)) U (I - 11' / K), the columns of U orthonormal. It is not trained.

    Args:
        width: d, channels of the last hidden layer.
        classes: K, at most d.
        seed: Of the turn.
        member: Each interpreter has its own.

    Returns:
        (d, K) float32; the columns have length 1 and pairwise cosine -1 / (K - 1).

    Raises:
        ValueError: If there are more classes than channels.

    Source: Papyan et al., Prevalence of neural collapse, PNAS 2020.
    """
    if classes > width:
        raise ValueError(f"a simplex of {classes} classes does not fit in {width} channels")
    drawn = torch.randn(width, classes, generator=generator_for(seed, member, what="simplex"))
    orthonormal = torch.linalg.qr(drawn).Q
    centred: Tensor = orthonormal - orthonormal.mean(1, keepdim=True)
    return centred * math.sqrt(classes / (classes - 1))
